package psi

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/component"
)

var options = Options{KeyBits: 2048, Hash: "sha256", FinalHash: "sha256", Sync: true}

// recorder records what one side sends.
type recorder struct {
	Peer
	mu   sync.Mutex
	sent map[string][][]byte
}

func (r *recorder) Send(ctx context.Context, step string, head any, body []byte) error {
	r.mu.Lock()
	if r.sent == nil {
		r.sent = map[string][][]byte{}
	}
	r.sent[step] = append(r.sent[step], slices.Clone(body))
	r.mu.Unlock()
	return r.Peer.Send(ctx, step, head, body)
}

type side struct {
	positions []int
	partner   int
	recorder  recorder
}

func exchange(
	ctx context.Context, guestIDs, hostIDs []string, guestOptions, hostOptions Options,
) (guest, host *side, err error) {
	guest, host = &side{}, &side{}
	guest.recorder.Peer, host.recorder.Peer = channel.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		var counts []int
		guest.positions, counts, err = Guest(ctx, []Peer{&guest.recorder}, guestIDs, guestOptions)
		if err == nil {
			guest.partner = counts[0]
		}
		return err
	})

	g.Go(func() (err error) {
		host.positions, host.partner, err = Host(ctx, &host.recorder, hostIDs, hostOptions)
		return err
	})
	return guest, host, g.Wait()
}

func pick(ids []string, positions []int) []string {
	out := []string{}
	for _, p := range positions {
		out = append(out, ids[p])
	}
	slices.Sort(out)
	return out
}

func numbered(from, to int) []string {
	out := []string{}
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("customer-%05d", i))
	}
	rand.New(rand.NewPCG(uint64(from), uint64(to))).
		Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func TestIntersection(t *testing.T) {
	for name, c := range map[string]struct {
		guest, host []string
		want        []string
		options     Options
	}{
		"overlap":     {numbered(0, 60), numbered(40, 90), numbered(40, 60), options},
		"nothing":     {numbered(0, 10), numbered(20, 30), nil, options},
		"all":         {numbered(0, 10), numbered(0, 10), numbered(0, 10), options},
		"empty guest": {nil, numbered(0, 10), nil, options},
		"empty host":  {numbered(0, 10), nil, nil, options},
		"both empty":  {nil, nil, nil, options},
		"several batch": {
			numbered(0, batch+20), numbered(batch, batch+30), numbered(batch, batch+20), options,
		},
		"sha512": {
			numbered(0, 10), numbered(5, 15), numbered(5, 10), Options{2048, "sha512", "sha512", true},
		},
		"odd ids": {
			[]string{"张三", " a", "a", "A", "\x00"}, []string{"张三", "a", "\x00\x00"}, []string{"张三", "a"},
			options,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guest, host, err := exchange(t.Context(), c.guest, c.host, c.options, c.options)
			require.NoError(t, err)
			want := append([]string{}, c.want...)
			slices.Sort(want)
			require.Equal(t, want, pick(c.guest, guest.positions))
			require.Equal(t, want, pick(c.host, host.positions))
			require.Equal(t, len(c.host), guest.partner)
			require.Equal(t, len(c.guest), host.partner)
		})
	}
}

// TestSeveralHosts checks that the result holds the ids of all parties, and that hosts learn no more than
// that.
func TestSeveralHosts(t *testing.T) {
	guestIDs := numbered(0, 30)
	hostIDs := [][]string{numbered(10, 40), numbered(5, 25), numbered(12, 50)}
	var guestEnds []Peer
	matched := make([][]int, len(hostIDs))
	g, ctx := errgroup.WithContext(t.Context())
	for h, ids := range hostIDs {
		guestEnd, hostEnd := channel.Pipe()
		guestEnds = append(guestEnds, guestEnd)
		g.Go(func() (err error) {
			matched[h], _, err = Host(ctx, hostEnd, ids, options)
			return err
		})
	}

	positions, counts, err := Guest(ctx, guestEnds, guestIDs, options)
	require.NoError(t, err)
	require.NoError(t, g.Wait())
	want := numbered(12, 25)
	slices.Sort(want)
	require.Equal(t, want, pick(guestIDs, positions))
	require.Equal(t, []int{30, 20, 38}, counts)
	for h, ids := range hostIDs {
		require.Equal(t, want, pick(ids, matched[h]))
	}
}

// TestSecrecy checks that messages differ between sessions and contain no ids, so that guessing ids does not
// help.
func TestSecrecy(t *testing.T) {
	ids := numbered(0, 30)
	first, firstHost, err := exchange(t.Context(), ids, ids, options, options)
	require.NoError(t, err)
	second, secondHost, err := exchange(t.Context(), ids, ids, options, options)
	require.NoError(t, err)
	for _, step := range []string{stepBlinded, stepMatched} {
		require.NotEqual(t, first.recorder.sent[step], second.recorder.sent[step], step)
	}
	for _, step := range []string{stepSigned, stepTokens} {
		require.NotEqual(t, firstHost.recorder.sent[step], secondHost.recorder.sent[step], step)
	}
	for _, sent := range []map[string][][]byte{first.recorder.sent, firstHost.recorder.sent} {
		for step, bodies := range sent {
			for _, body := range bodies {
				require.False(t, bytes.Contains(body, []byte("customer")), step)
			}
		}
	}

	_, err = decodeTokens(firstHost.recorder.sent[stepTokens][0], 32)
	require.NoError(t, err, "sorted, so that their order reveals nothing about rows")

	// Blinded ids differ from the hashes, which anyone can compute.
	s, err := newSigner(2048, "sha256", "sha256")
	require.NoError(t, err)
	guestEnd, hostEnd := channel.Pipe()
	g, ctx := errgroup.WithContext(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	g.Go(func() error {
		_, _, err := Guest(ctx, []Peer{guestEnd}, ids, options)
		require.ErrorIs(t, err, context.Canceled)
		return nil
	})
	require.NoError(t, hostEnd.Send(ctx, stepKey, keyHead{options, s.n.Bytes(), exponent}, nil))
	body, err := hostEnd.Receive(ctx, stepBlinded, &batchHead{})
	require.NoError(t, err)
	blinded, err := decodeNumbers(body, s.width(), s.n)
	require.NoError(t, err)
	for i, id := range ids {
		require.NotEqual(t, 0, s.hashID(id).Cmp(blinded[i]))
	}
	cancel()
	require.NoError(t, g.Wait())
}

func TestWithoutSync(t *testing.T) {
	o := options
	o.Sync = false
	guest, host, err := exchange(t.Context(), numbered(0, 20), numbered(10, 30), o, o)
	require.NoError(t, err)
	require.Len(t, guest.positions, 10)
	require.Empty(t, host.positions)
	require.NotContains(t, guest.recorder.sent, stepMatched)
}

func TestRefuses(t *testing.T) {
	other := options
	other.FinalHash = "sha512"
	_, _, err := exchange(t.Context(), numbered(0, 3), numbered(0, 3), options, other)
	require.ErrorContains(t, err, "different parameters")

	s, err := newSigner(2048, "sha256", "sha256")
	require.NoError(t, err)
	n := s.n.Bytes()
	signed := func(change func(x *big.Int)) func(t *testing.T, host Peer) {
		return func(t *testing.T, host Peer) {
			require.NoError(t, host.Send(t.Context(), stepKey, keyHead{options, n, exponent}, nil))
			body, err := host.Receive(t.Context(), stepBlinded, &batchHead{})
			require.NoError(t, err)
			xs, err := decodeNumbers(body, s.width(), s.n)
			require.NoError(t, err)
			require.NoError(t, s.sign(t.Context(), xs))
			change(xs[1])
			require.NoError(t, host.Send(t.Context(), stepSigned, batchHead{3}, encodeNumbers(xs, s.width())))
		}
	}

	for name, c := range map[string]struct {
		host func(t *testing.T, host Peer)
		want string
	}{
		"short key": {func(t *testing.T, host Peer) {
			require.NoError(t, host.Send(t.Context(), stepKey, keyHead{options, n[128:], exponent}, nil))
		}, "must have 2048 bits"},
		"exponent": {func(t *testing.T, host Peer) {
			require.NoError(t, host.Send(t.Context(), stepKey, keyHead{options, n, 1}, nil))
		}, "must have 2048 bits"},
		"wrong signature": {signed(func(x *big.Int) { x.Rsh(x, 1) }), "not valid under its key"},
		"zero":            {signed(func(x *big.Int) { x.SetInt64(0) }), "outside of the key's range"},
	} {
		t.Run(name, func(t *testing.T) {
			guestEnd, hostEnd := channel.Pipe()
			done := make(chan error, 1)
			go func() {
				_, _, err := Guest(t.Context(), []Peer{guestEnd}, numbered(0, 3), options)
				done <- err
			}()
			c.host(t, hostEnd)
			require.ErrorContains(t, <-done, c.want)
		})
	}

	for name, send := range map[string]func(t *testing.T, guest Peer, s *big.Int){
		"too many":  func(t *testing.T, g Peer, _ *big.Int) { send(t, g, 1, bytes.Repeat([]byte{1}, 512)) },
		"too few":   func(t *testing.T, g Peer, _ *big.Int) { send(t, g, 5, bytes.Repeat([]byte{1}, 256)) },
		"negative":  func(t *testing.T, g Peer, _ *big.Int) { send(t, g, -1, nil) },
		"too large": func(t *testing.T, g Peer, n *big.Int) { send(t, g, 1, n.Bytes()) },
		"ragged":    func(t *testing.T, g Peer, _ *big.Int) { send(t, g, 1, make([]byte, 255)) },
	} {
		t.Run("guest sends "+name, func(t *testing.T) {
			guestEnd, hostEnd := channel.Pipe()
			done := make(chan error, 1)
			go func() {
				_, _, err := Host(t.Context(), hostEnd, numbered(0, 3), options)
				done <- err
			}()
			var key keyHead
			_, err := guestEnd.Receive(t.Context(), stepKey, &key)
			require.NoError(t, err)
			send(t, guestEnd, new(big.Int).SetBytes(key.N))
			require.ErrorContains(t, <-done, "blinded ids of the guest")
		})
	}
}

func send(t *testing.T, guest Peer, total int, body []byte) {
	require.NoError(t, guest.Send(t.Context(), stepBlinded, batchHead{total}, body))
}

func TestParameters(t *testing.T) {
	for name, c := range map[string]struct {
		parameters map[string]string
		want       string
	}{
		"raw": {
			map[string]string{"intersect_method": "raw"},
			`parameter intersect_method: "raw" is not supported; supported: rsa`,
		},
		"short": {
			map[string]string{"rsa_params": `{"key_length": 1024}`},
			"parameter rsa_params.key_length: 1024 is not supported",
		},
		"md5": {
			map[string]string{"rsa_params": `{"hash_method": "md5"}`}, "parameter rsa_params.hash_method",
		},
		"bool":  {map[string]string{"only_output_key": "maybe"}, "parameter only_output_key"},
		"input": {nil, "runtime.component.input.train_data is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(
				t,
				Run(t.Context(), component.Task{Component: "Intersection", Parameters: c.parameters}, nil,
					nil),
				c.want,
			)
		})
	}
}

func FuzzDecodeTokens(f *testing.F) {
	f.Add([]byte("aaaabbbb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tokens, err := decodeTokens(b, 4)
		if err == nil {
			require.Equal(t, string(b), string(bytes.Join(tokens, nil)))
			require.True(t, slices.IsSortedFunc(tokens, bytes.Compare))
		}
	})
}
