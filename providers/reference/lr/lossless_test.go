package lr

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outputs"
)

// tolerance is the accuracy that the package promises for weights, scores and losses.
const tolerance = 1e-6

// dataset holds the columns of the guest and of each host.
type dataset struct {
	ids    []string
	labels []uint8
	guest  []component.NumericColumn
	hosts  [][]component.NumericColumn
}

func makeDataset(seed uint64, rows, guestColumns int, hostColumns ...int) dataset {
	rng := rand.New(rand.NewPCG(seed, 7))
	d := dataset{}
	truth := make([]float64, rows)
	columns := func(side string, n int) (list []component.NumericColumn) {
		for c := range n {
			f := component.NumericColumn{Name: fmt.Sprint(side, c)}
			weight := rng.NormFloat64()
			for i := range rows {
				x := rng.NormFloat64()
				truth[i] += weight * x
				f.Values = append(f.Values, x)
			}
			list = append(list, f)
		}
		return list
	}

	d.guest = columns("g", guestColumns)
	for h, n := range hostColumns {
		d.hosts = append(d.hosts, columns(fmt.Sprint("h", h, "_"), n))
	}
	for i, z := range truth {
		d.ids = append(d.ids, fmt.Sprint("row", i))
		label := uint8(0)
		if z+rng.NormFloat64()*0.5 > 0 {
			label = 1
		}
		d.labels = append(d.labels, label)
	}
	return d
}

func (d dataset) joined(intercept bool) [][]float64 {
	var out [][]float64
	for _, list := range append([][]component.NumericColumn{d.guest}, d.hosts...) {
		for _, f := range list {
			out = append(out, f.Values)
		}
	}
	if intercept {
		out = append(out, slices.Repeat([]float64{1}, len(d.ids)))
	}
	return out
}

func (d dataset) roles() roles {
	all := roles{guest: "guest.0", arbiter: "arbiter.0"}
	for h := range d.hosts {
		all.hosts = append(all.hosts, fmt.Sprint("host.", h))
	}
	return all
}

// mesh connects each party with each other party.
func mesh(names ...string) map[string]component.Peers {
	out := map[string]component.Peers{}
	for _, a := range names {
		out[a] = component.Peers{}
	}
	for i, a := range names {
		for _, b := range names[:i] {
			out[a][b], out[b][a] = channel.Pipe()
		}
	}
	return out
}

// federatedResult is the result of a training by several parties.
type federatedResult struct {
	losses, scores []float64
	weights        []float64 // in the order of the joined table
	decrypted      int
}

// federate trains with all parties in this process. change may modify a party before it runs.
func federate(ctx context.Context, d dataset, p Params, change func(*party)) (federatedResult, error) {
	all := d.roles()
	peers := mesh(append([]string{all.guest, all.arbiter}, all.hosts...)...)
	g, ctx := errgroup.WithContext(ctx)
	var f federatedResult
	parties := make([]*party, 1+len(d.hosts))
	g.Go(func() (err error) {
		f.decrypted, err = serveParties(ctx, peers[all.arbiter], p.KeyBits)
		return err
	})
	for i := range parties {
		g.Go(func() (err error) {
			if i == 0 {
				parties[i], err = newParty(all.guest, all, peers[all.guest], p, d.ids, d.guest, d.labels)
			} else {
				self := all.hosts[i-1]
				parties[i], err = newParty(self, all, peers[self], p, d.ids, d.hosts[i-1], nil)
			}
			if err != nil {
				return err
			}
			if change != nil {
				change(parties[i])
			}
			losses, scores, err := parties[i].run(ctx)
			if i == 0 {
				f.losses, f.scores = losses, scores
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return f, err
	}
	own := len(d.guest)
	f.weights = slices.Clone(parties[0].weights[:own])
	for _, h := range parties[1:] {
		f.weights = append(f.weights, h.weights...)
	}
	f.weights = append(f.weights, parties[0].weights[own:]...)
	return f, nil
}

func testParams(t testing.TB, over map[string]string) Params {
	values := map[string]string{"encrypt_param": `{"key_length": 1024}`, "max_iter": "4", "tol": "0"}
	for k, v := range over {
		values[k] = v
	}
	p, err := ReadParams(values)
	require.NoError(t, err)
	return p
}

// TestLossless checks that federated regression gives the weights, scores and losses of the same regression
// on the joined table.
func TestLossless(t *testing.T) {
	for name, c := range map[string]struct {
		rows, guest int
		hosts       []int
		params      map[string]string
		batches     [][2]int
		iterations  int
	}{
		"defaults": {40, 3, []int{4}, nil, [][2]int{{0, 40}}, 4},
		"sgd, no penalty": {
			40, 3, []int{4}, map[string]string{"optimizer": "sgd", "penalty": "none", "learning_rate": "1"},
			[][2]int{{0, 40}}, 4,
		},
		"nesterov, early diff": {
			40, 2, []int{3},
			map[string]string{"optimizer": "nesterov_momentum_sgd", "batch_size": "-1", "early_stop": "diff"},
			[][2]int{{0, 40}}, 4,
		},
		"adam, L1, batches": {
			32, 3, []int{4},
			map[string]string{
				"optimizer": "adam", "penalty": "L1", "alpha": "0.05", "batch_size": "12", "max_iter": "3",
			},
			[][2]int{{0, 10}, {10, 21}, {21, 32}}, 3,
		},
		"adagrad, ones, L2": {
			40, 2, []int{2}, map[string]string{"optimizer": "adagrad", "init_param": "ones", "alpha": "0.5"},
			[][2]int{{0, 40}}, 4,
		},
		"no intercept, const": {
			40, 2, []int{2},
			map[string]string{
				"init_param": `{"init_method": "const", "init_const": -0.5, "fit_intercept": "False"}`,
			},
			[][2]int{{0, 40}}, 4,
		},
		"guest without feature": {40, 0, []int{3}, nil, [][2]int{{0, 40}}, 4},
		"three hosts, batches": {
			30, 1, []int{2, 1, 2}, map[string]string{"optimizer": "sgd", "batch_size": "15", "max_iter": "2"},
			[][2]int{{0, 15}, {15, 30}}, 2,
		},
		"stops by diff": {
			60, 3, []int{3},
			map[string]string{"early_stop": "diff", "tol": "0.05", "optimizer": "sgd", "max_iter": "50"},
			[][2]int{{0, 60}}, 2,
		},
		"stops by weight_diff": {
			40, 3, []int{3}, map[string]string{"tol": "0.05", "optimizer": "sgd", "max_iter": "50"},
			[][2]int{{0, 40}}, 0,
		},
		"stops by abs": {
			60, 3, []int{3}, map[string]string{"early_stop": "abs", "tol": "0.6", "max_iter": "50"},
			[][2]int{{0, 60}}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testParams(t, c.params)
			d := makeDataset(uint64(len(name)), c.rows, c.guest, c.hosts...)
			want := newTaylor()
			want.train(d.joined(p.Intercept), d.labels, p, c.batches)
			got, err := federate(t.Context(), d, p, nil)
			require.NoError(t, err)
			require.Len(t, got.losses, len(want.losses))
			if c.iterations > 0 {
				require.Len(t, got.losses, c.iterations)
			} else {
				require.Greater(t, len(got.losses), 1)
				require.Less(t, len(got.losses), 50)
			}
			require.InDeltaSlice(t, want.losses, got.losses, tolerance)
			require.InDeltaSlice(t, want.weights, got.weights, tolerance)
			require.InDeltaSlice(t, want.scores, got.scores, tolerance)
			require.NotEqual(t, want.weights[0], p.Init, "the weights have changed")
		})
	}
}

// readBreast returns the rows that both files of the breast data contain, sorted by id.
func readBreast(t testing.TB) dataset {
	read := func(file string) *component.Table {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "breast", file))
		require.NoError(t, err)
		table := &component.Table{}
		for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
			if cells := strings.Split(line, ","); i == 0 {
				table.Columns = cells
			} else {
				table.Rows = append(table.Rows, cells)
			}
		}

		slices.SortFunc(table.Rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
		return table
	}

	guest, host := read("guest.csv"), read("host.csv")
	keep := func(t, other *component.Table) {
		has := map[string]bool{}
		for _, row := range other.Rows {
			has[row[0]] = true
		}
		t.Rows = slices.DeleteFunc(t.Rows, func(row []string) bool { return !has[row[0]] })
	}

	keep(guest, host)
	keep(host, guest)
	ids, err := guest.IDs("id")
	require.NoError(t, err)
	labels, err := guest.Labels("y")
	require.NoError(t, err)
	guestFeatures, err := guest.Features("id", "y")
	require.NoError(t, err)
	hostFeatures, err := host.Features("id")
	require.NoError(t, err)
	return dataset{ids, labels, guestFeatures, [][]component.NumericColumn{hostFeatures}}
}

// TestBreast checks on real data that the result equals plain regression, and that it ranks like regression
// with the exact logistic loss.
func TestBreast(t *testing.T) {
	d := readBreast(t)
	require.Len(t, d.ids, 509)
	p := testParams(t, map[string]string{"max_iter": "2"})
	want := newTaylor()
	want.train(d.joined(true), d.labels, p, [][2]int{{0, 509}})
	got, err := federate(t.Context(), d, p, nil)
	require.NoError(t, err)
	require.InDeltaSlice(t, want.losses, got.losses, tolerance)
	require.InDeltaSlice(t, want.weights, got.weights, tolerance)
	require.InDeltaSlice(t, want.scores, got.scores, tolerance)

	// Compare the ranking of the expansion with that of the exact loss, both trained in plaintext to the end.
	p.MaxIter, p.Optimizer, p.LearningRate = 200, "sgd", 0.5
	expanded, exact := newTaylor(), newExact()
	expanded.train(d.joined(true), d.labels, p, [][2]int{{0, 509}})
	exact.train(d.joined(true), d.labels, p, [][2]int{{0, 509}})
	a, b := outputs.Measure(d.labels, expanded.scores), outputs.Measure(d.labels, exact.scores)
	t.Logf("auc %.4f, exact %.4f; ks %.4f, exact %.4f", a.AUC, b.AUC, a.KS, b.KS)
	require.InDelta(t, b.AUC, a.AUC, 0.01)
	require.InDelta(t, b.KS, a.KS, 0.05)
}

// TestRefuses checks that invalid trainings are refused, with messages that may be sent to all parties.
func TestRefuses(t *testing.T) {
	d := makeDataset(1, 40, 2, 2)
	for name, c := range map[string]struct {
		params map[string]string
		change func(*party)
		want   string
	}{
		"other parameters": {nil, func(w *party) {
			if w.labels == nil {
				w.params.Alpha = 7
			}
		}, "different parameters"},
		"other rows": {nil, func(w *party) {
			if w.labels == nil {
				w.ids = append([]string{w.ids[1], w.ids[0]}, w.ids[2:]...)
			}
		}, "run Intersection first"},
		"other key": {nil, func(w *party) { w.params.KeyBits = 2048 }, "key_length must be equal everywhere"},
		"diverges": {
			map[string]string{"optimizer": "sgd", "learning_rate": "1000", "max_iter": "20"}, nil,
			"the training diverges",
		},
		"small batches": {map[string]string{"batch_size": "3"}, nil, "a batch has only 2 rows"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := federate(t.Context(), d, testParams(t, c.params), c.change)
			require.ErrorContains(t, err, c.want)
			var shared *channel.Error
			require.True(t, errors.As(err, &shared))
		})
	}

	large := makeDataset(1, 40, 2, 2)
	large.hosts[0][1].Values[3] = 1 << 20
	_, err := federate(t.Context(), large, testParams(t, nil), nil)
	require.ErrorContains(t, err, "standardise the features")
}

// TestRefusesTheOtherSide checks that invalid, missing and misplaced ciphertexts of a partner are detected.
func TestRefusesTheOtherSide(t *testing.T) {
	d := makeDataset(1, 40, 2, 2)
	for name, c := range map[string]struct {
		step  string
		alter func(head any, body []byte) (any, []byte)
		want  string
	}{
		"zeros": {
			stepShares, func(h any, b []byte) (any, []byte) { return h, make([]byte, len(b)) },
			"not a ciphertext of the key",
		},
		"too few": {
			stepShares, func(h any, b []byte) (any, []byte) { return h, b[256:] }, "ciphertexts of 256 bytes",
		},
		"old": {
			stepShares, func(any, []byte) (any, []byte) { return position{9, 9}, nil },
			"received iteration 9, batch 9; expected iteration 1, batch 0",
		},
		"status": {
			stepStatus, func(h any, b []byte) (any, []byte) { return h, append(b, b...) }, "status of host.0",
		},
		"next": {
			stepNext, func(any, []byte) (any, []byte) { return nextHead{}, nil },
			"the decision for iteration 0",
		},
		"request": {
			stepMasked, func(any, []byte) (any, []byte) { return maskedHead{Count: 1 << 30}, nil },
			"the request has 1073741824 numbers",
		},
		"no number": {
			stepMasked, func(h any, b []byte) (any, []byte) { return h, make([]byte, len(b)) },
			"not a ciphertext of this key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := federate(t.Context(), d, testParams(t, nil), func(w *party) {
				for who, peer := range w.others {
					w.others[who] = tamperer{peer, c.step, c.alter}
				}
				w.arbiter = tamperer{w.arbiter, c.step, c.alter}
			})
			require.ErrorContains(t, err, c.want)
		})
	}
}

type tamperer struct {
	component.Peer
	step  string
	alter func(head any, body []byte) (any, []byte)
}

func (l tamperer) Send(ctx context.Context, step string, head any, body []byte) error {
	if step == l.step {
		head, body = l.alter(head, body)
	}
	return l.Peer.Send(ctx, step, head, body)
}

func BenchmarkBreast2048(b *testing.B) {
	d := readBreast(b)
	p := testParams(b, map[string]string{"encrypt_param": `{"key_length": 2048}`, "max_iter": "5"})
	for b.Loop() {
		_, err := federate(b.Context(), d, p, nil)
		require.NoError(b, err)
	}
}
