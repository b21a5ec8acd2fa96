package transport

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// pattern reads n bytes of noise that repeats after a prime number of bytes.
type pattern struct{ at, n int64 }

var noise = func() []byte {
	b := make([]byte, 65521)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // never fails
	return b
}()

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	n := copy(b, noise[p.at%int64(len(noise)):])
	p.at += int64(n)
	return n, nil
}

// checksum returns the CRC of all bytes of r, which must be n.
func checksum(t *testing.T, r io.Reader, n int64) uint32 {
	t.Helper()
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	got, err := io.Copy(h, r)
	require.NoError(t, err)
	require.Equal(t, n, got)
	return h.Sum32()
}

// peakHeap samples the heap until stop, which returns how much it grew at most.
func peakHeap() (stop func() int64) {
	runtime.GC()
	before := heap()
	var peak atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			peak.Store(max(peak.Load(), heap()))
			time.Sleep(5 * time.Millisecond) // a sample
		}
	}()
	return func() int64 {
		cancel()
		<-ended
		return peak.Load() - before
	}
}

// hugeCase is one encoding in which TestHugeMessage sends its message.
type hugeCase struct {
	name, contentType, push, pop string
	client                       http.RoundTripper
	size, length                 int64 // of the payload and of the push's body
	body                         func() io.Reader
	popBody                      string
	payload                      func(answer *bufio.Reader) io.Reader
}

// TestHugeMessage sends a message of 1 GiB from a container through both transports to the other container:
// over HTTP with protobuf, over gRPC and over HTTP with JSON. The heap must not grow with the message.
func TestHugeMessage(t *testing.T) {
	const limit = 2 << 30
	limits := Limits{MessageBytes: limit, SessionBytes: 4 * limit, TotalBytes: 8 * limit,
		PushTimeout: 10 * time.Minute}
	net := newNetwork(t, limits, "A", "B")
	h2c := &http.Transport{Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	defer h2c.CloseIdleConnections()

	for _, c := range hugeCases(t, int64(hugeMessage), h2c) {
		t.Run(c.name, func(t *testing.T) {
			stop := peakHeap()
			resp := c.call(t, c.push, net["A"].url, c.body(), c.length, "B")
			answer, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Contains(t, string(answer), status.OK, "%s", answer)

			resp = c.call(t, c.pop, net["B"].url, newBytes([]byte(c.popBody)), int64(len(c.popBody)), "")
			r := bufio.NewReader(resp.Body)
			got := checksum(t, io.LimitReader(c.payload(r), c.size), c.size)
			_, err = io.Copy(io.Discard, r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())

			require.Less(t, stop(), int64(48*mib), "the heap's growth, of client and both transports")
			require.Equal(t, checksum(t, &pattern{n: c.size}, c.size), got)
			eventually(t, "no message is held", func() bool {
				return net["A"].Stats().Bytes+net["B"].Stats().Bytes <= 2*(queue.TopicOverhead+1)
			})
		})
	}
}

func hugeCases(t *testing.T, n int64, h2c http.RoundTripper) []hugeCase {
	head := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "x")
	head = protowire.AppendVarint(protowire.AppendTag(head, 2, protowire.BytesType), uint64(n))
	return []hugeCase{
		{"protobuf", "application/x-protobuf", pathPush, pathPop, http.DefaultTransport,
			n, int64(len(head)) + n,
			func() io.Reader { return io.MultiReader(newBytes(head), &pattern{n: n}) }, "\x0a\x01x",
			func(r *bufio.Reader) io.Reader { return protoContent(t, r) }},
		{"gRPC", wire.GRPCType, grpcContainer + "push", grpcContainer + "pop", h2c, n, -1,
			func() io.Reader {
				frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(int64(len(head))+n))
				return io.MultiReader(newBytes(append(frame, head...)), &pattern{n: n})
			}, "\x00\x00\x00\x00\x03\x0a\x01x",
			func(r *bufio.Reader) io.Reader {
				_, err := r.Discard(5)
				require.NoError(t, err)
				return protoContent(t, r)
			}},
		{"JSON, a sixteenth", "application/json", pathPush, pathPop, http.DefaultTransport, n / 16, -1,
			func() io.Reader {
				return io.MultiReader(newBytes([]byte(`{"payload":"`)), base64Pattern(n/16),
					newBytes([]byte(`","topic":"x"}`)))
			}, `{"topic":"x"}`,
			func(r *bufio.Reader) io.Reader {
				for text := ""; !strings.HasSuffix(text, `"content":"`); {
					b, err := r.ReadByte()
					require.NoError(t, err)
					text += string(b)
				}
				return base64.NewDecoder(base64.StdEncoding, &untilQuote{r: r})
			}},
	}
}

// call sends a request of the case and returns its answer.
func (c hugeCase) call(
	t *testing.T, path, url string, body io.Reader, length int64, target string,
) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+path, body)
	require.NoError(t, err)
	req.ContentLength = length
	req.Header.Set("Content-Type", c.contentType)
	req.Header.Set(wire.HeaderSessionID, "s")
	if target != "" {
		req.Header.Set(wire.HeaderTargetNodeID, target)
	}
	resp, err := c.client.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	return resp
}

// base64Pattern returns n bytes of the pattern in base64.
func base64Pattern(n int64) io.Reader {
	r, w := io.Pipe()
	go func() {
		bw := bufio.NewWriterSize(w, 64<<10)
		enc := base64.NewEncoder(base64.StdEncoding, bw)
		_, err := io.Copy(enc, &pattern{n: n})
		w.CloseWithError(errors.Join(err, enc.Close(), bw.Flush()))
	}()
	return r
}

// protoContent skips to the payload of a TransportOutbound.
func protoContent(t *testing.T, r *bufio.Reader) io.Reader {
	t.Helper()
	tag, err := r.ReadByte()
	require.NoError(t, err)
	require.EqualValues(t, 0x12, tag)
	_, err = binary.ReadUvarint(r)
	require.NoError(t, err)
	return r
}

// untilQuote reads to the end of a JSON string.
type untilQuote struct{ r *bufio.Reader }

func (u *untilQuote) Read(p []byte) (int, error) {
	if _, err := u.r.Peek(1); err != nil {
		return 0, err
	}
	b, _ := u.r.Peek(min(len(p), u.r.Buffered()))
	n := 0
	for n < len(b) && b[n] != '"' {
		n++
	}
	copy(p, b[:n])
	_, err := u.r.Discard(n)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
