package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"hutong/test/testenv/ports"
	"hutong/transport/ptp"
)

// fairSessions is the number of sessions that send at once, and fairSizes are the sizes of their messages. Of
// the small ones there are more than the default of limits.requests_per_second, which holds them up.
const fairSessions = 64

var fairSizes = []struct {
	name  string
	bytes int
}{{"100 B", 100}, {"100 kB", 100 << 10}}

// messageSizes are the sizes of messages that are measured alone, with their targets.
var messageSizes = []struct {
	name   string
	bytes  int
	target target
}{
	{"100 B", 100, atMost(3)},
	{"1 MB", 1 << 20, atMost(1.5)},
	{"64 MB", 64 << 20, atMost(1.5)},
}

// link carries messages from one party to another: send gives a message to its own party, and receive takes
// the next from the other.
type link interface {
	send(ctx context.Context, session string, body []byte) error
	receive(ctx context.Context, session string) (size int, err error)
}

// measureTransport compares two transports without a database with two servers that pass a message to the
// next and keep it in memory. Each is a process.
func measureTransport(ctx context.Context, o options, into *report) error {
	hutong, stop, err := startTransports(ctx, o.hutong)
	defer stop()
	if err != nil {
		return err
	}
	bare, stopBare, err := startHops(ctx)
	defer stopBare()
	if err != nil {
		return err
	}
	section := into.addSection("Messages between two parties", "two bare hops")

	for _, size := range messageSizes {
		body, err := pushBody(size.bytes)
		if err != nil {
			return err
		}
		var took [2]samples
		n := max(o.messages/(1+size.bytes>>20), 8)
		for i := range n + 3 { // the first ones warm up
			for side, l := range []link{hutong, bare} {
				began := time.Now()
				if err := l.send(ctx, "alone", body); err != nil {
					return err
				}
				got, err := l.receive(ctx, "alone")
				if err != nil {
					return err
				}
				if got < size.bytes {
					return fmt.Errorf("a message of %d bytes came as %d", size.bytes, got)
				}
				if i >= 3 {
					took[side].add(time.Since(began), nil)
				}
			}
		}
		section.add(compareMedians("a message of "+size.name, took[0], took[1], size.target))
	}

	for _, size := range fairSizes {
		var slowest [2]float64
		var total [2]int64
		for side, l := range []link{hutong, bare} {
			if slowest[side], total[side], err = measureFairness(ctx, l, size.bytes, o.fairFor); err != nil {
				return err
			}
		}
		section.add(figure{name: fmt.Sprintf("%d sessions at once with messages of %s: the slowest against "+
			"the mean", fairSessions, size.name), measured: fmt.Sprintf("%.2f", slowest[0]),
			baseline: fmt.Sprintf("%.2f", slowest[1]), ratio: slowest[0], target: atLeast(0.9),
			notes: []string{"the ratio is Hutong's figure alone"}})
		rate := func(side int) string {
			perSecond := float64(total[side]) / o.fairFor.Seconds()
			return fmt.Sprintf("%.0f/s (%.1f MB/s)", perSecond, perSecond*float64(size.bytes)/(1<<20))
		}
		section.add(figure{name: "their messages together", measured: rate(0), baseline: rate(1),
			ratio: float64(total[1]) / float64(total[0])})
	}
	return nil
}

func pushBody(size int) ([]byte, error) {
	return proto.Marshal(&ptp.PushInbound{Topic: trafficTopic, Payload: bytes.Repeat([]byte("x"), size)})
}

// measureFairness lets many sessions exchange messages for some time, and returns the messages of the slowest
// one divided by the mean, and the messages of all.
func measureFairness(ctx context.Context, l link, size int, d time.Duration,
) (slowest float64, total int64, err error) {
	body, err := pushBody(size)
	if err != nil {
		return 0, 0, err
	}
	counts := make([]int64, fairSessions)
	var over atomic.Bool
	timer := time.AfterFunc(d, func() { over.Store(true) })
	defer timer.Stop()
	err = forEachParallel(fairSessions, fairSessions, func(i int) error {
		session := fmt.Sprintf("fair%02d", i)
		for !over.Load() {
			if err := l.send(ctx, session, body); err != nil {
				return err
			}
			if _, err := l.receive(ctx, session); err != nil {
				return err
			}
			counts[i]++
		}
		return nil
	})
	for _, n := range counts {
		total += n
	}
	return float64(slices.Min(counts)*fairSessions) / float64(total), total, err
}

// transports are the transports of two parties.
type transports struct{ from, to channelClient }

func (t transports) send(ctx context.Context, session string, body []byte) error {
	t.from.sessionID = session
	_, err := t.from.call(ctx, "push", t.to.node, body)
	return err
}

func (t transports) receive(ctx context.Context, session string) (int, error) {
	body, err := proto.Marshal(&ptp.PopInbound{Topic: trafficTopic, Timeout: 30_000})
	if err != nil {
		return 0, err
	}
	t.to.sessionID = session
	payload, err := t.to.call(ctx, "pop", "", body)
	return len(payload), err
}

// startTransports starts transports that need no database. The caller must call stop, even after an error.
func startTransports(ctx context.Context, hutong string) (t transports, stop func(), err error) {
	p := processes{hutong: hutong}
	stop = func() { p.stop() }
	if p.dir, err = os.MkdirTemp("", "hutong-bench-"); err != nil {
		return t, stop, err
	}
	nodes := []string{"FROM", "TO"}
	containers, partners := make([]string, 2), make([]string, 2)
	for i := range nodes {
		if containers[i], err = ports.Address(); err != nil {
			return t, stop, err
		}
		if partners[i], err = ports.Address(); err != nil {
			return t, stop, err
		}
	}
	for i, node := range nodes {
		file := filepath.Join(p.dir, node+".yaml")
		config := fmt.Sprintf("node_id: %s\ndata_dir: %s\nlog: {level: warn}\nsecurity: {mode: open}\n"+
			"transport: {listen: %q, partner_plain_listen: %q, sessions: all}\n"+
			"routes: {%s: {url: \"http://127.0.0.1:1\", transport_url: \"http://%s\", from: [127.0.0.1/32]}}\n",
			node, filepath.Join(p.dir, node), containers[i], partners[i], nodes[1-i], partners[1-i])
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return t, stop, err
		}
		if err := p.start("transport", "-c", file); err != nil {
			return t, stop, err
		}
	}
	for _, address := range slices.Concat(containers, partners) {
		if err := awaitListener(ctx, address); err != nil {
			return t, stop, err
		}
	}
	client := func(i int) channelClient {
		return channelClient{url: "http://" + containers[i], traceID: "bench", token: "bench", node: nodes[i]}
	}
	return transports{from: client(0), to: client(1)}, stop, nil
}
