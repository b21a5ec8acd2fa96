package probe

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"hutong-reference/channel"
)

// Steps of the exchange, as the package comment describes them.
const (
	stepHello   = "hello"
	stepReceipt = "receipt"
	stepPing    = "ping"
	stepPong    = "pong"
	stepDone    = "done"
)

const (
	helloSize = 1 << 20
	pings     = 5
)

type hello struct {
	Nonce  string    `json:"nonce"`
	Time   time.Time `json:"time"`
	Digest []byte    `json:"digest"` // SHA-256 of the body
}

type receipt struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"`
}

type ping struct {
	Nonce string `json:"nonce"`
	Round int    `json:"round"`
}

type pong struct {
	ping
	// When the ping arrived and the pong departed, by the answering party's clock.
	Came time.Time `json:"came"`
	Left time.Time `json:"left"`
}

// peerProbe runs the exchange with one other party.
type peerProbe struct {
	ctx          context.Context // ends when the other party fails
	config       channel.Config
	link         *channel.Link
	err          error // why there is no link
	partner      string
	pingsFirst   bool // whether this party pings first
	timeout      time.Duration
	now          func() time.Time // this party's clock
	nonce        string
	partnerNonce string // empty until its hello arrives
}

// openPeer opens the exchange. If that fails, every check reports the error.
func openPeer(ctx context.Context, c channel.Config, timeout time.Duration, now func() time.Time) *peerProbe {
	c.ReceiveTimeout, c.TransportTimeout = timeout+receiptGrace(timeout), timeout
	d := &peerProbe{
		config:     c,
		partner:    c.Partner,
		pingsFirst: c.Self < c.Partner,
		timeout:    timeout,
		nonce:      rand.Text(),
		now:        now,
	}

	d.link, d.ctx, d.err = channel.Open(ctx, c)
	return d
}

func (d *peerProbe) close() {
	if d.link != nil {
		d.link.Close()
	}
}

// finish notifies the other party that this one has written its report. If messages arrive from it, finish
// waits until it has written its report, too.
func (d *peerProbe) finish() {
	if d.err != nil {
		return
	}
	sendErr := d.send(d.ctx, stepDone, struct{}{}, nil)
	if d.partnerNonce != "" && sendErr == nil {
		if _, err := d.receive(d.ctx, stepDone, &struct{}{}); err != nil {
			slog.Debug(
				"failed to learn whether the peer wrote its report", "peer", d.partner, "error", err.Error(),
			)
		}
	}
}

// run checks the transport in both directions and compares the clocks.
func (d *peerProbe) run(maxOffset time.Duration) []Check {
	ctx, c := d.ctx, d.config
	check := func(name string) Check { return Check{Name: name, Peer: c.Partner, PeerNodeID: c.PartnerNode} }
	from, to, clock := check("transport_from"), check("transport_to"), check("clock")
	if d.err != nil {
		return []Check{from.withError(d.err), to.withError(d.err)}
	}
	sendErr := d.sendHello(ctx)
	fromErr := d.receiveHello(ctx)
	h := receipt{OK: fromErr == nil}
	if fromErr != nil {
		h.Why = "no complete message arrived"
		from = from.withError(fromErr)
	} else {
		from.OK = true
	}
	if err := d.send(ctx, stepReceipt, h, nil); sendErr == nil {
		sendErr = err
	}
	if sendErr != nil {
		return []Check{from, to.withError(sendErr)}
	}
	var they receipt
	// The other party sends its receipt at the latest when its own wait for the hello times out.
	if _, err := d.receiveWithin(ctx, d.timeout+receiptGrace(d.timeout), stepReceipt, &they); err != nil {
		return []Check{from, to.withError(fmt.Errorf("%s sent no receipt: %w", c.Partner, err))}
	}
	if !they.OK {
		return []Check{from, to.withError(fmt.Errorf("%s reports: %s", c.Partner, they.Why))}
	}
	if fromErr != nil {
		to.OK = true
		return []Check{from, to}
	}
	offset, trip, err := d.compareClocks(ctx)
	if err != nil {
		return []Check{from, to.withError(err)}
	}
	clock.OK = true
	clock.Offset, clock.Uncertainty = milliseconds(offset), milliseconds(trip/2)
	if beyond := offset.Abs() - trip/2; beyond > maxOffset {
		side := "ahead of"
		if offset < 0 {
			side = "behind"
		}
		clock = clock.withError(
			fmt.Errorf("the clock of %s is %s %s this party's clock, more than %s: synchronize both by NTP",
				c.Partner, offset.Abs().Round(time.Millisecond), side, maxOffset),
		)
	}
	return []Check{from, to.withDuration(trip), clock}
}

func (d *peerProbe) send(ctx context.Context, step string, head any, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(
		ctx, d.timeout, fmt.Errorf("the transport did not accept the message within %s", d.timeout),
	)
	defer cancel()
	return d.link.Send(ctx, step, head, body)
}

func (d *peerProbe) receive(ctx context.Context, step string, head any) ([]byte, error) {
	return d.receiveWithin(ctx, d.timeout, step, head)
}

func (d *peerProbe) receiveWithin(
	ctx context.Context, limit time.Duration, step string, head any,
) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no message arrived within %s", limit))
	defer cancel()
	return d.link.Receive(ctx, step, head)
}

// receiptGrace returns how much longer than the timeout a party waits for a receipt.
func receiptGrace(timeout time.Duration) time.Duration { return min(timeout/2, 5*time.Second) }

func (d *peerProbe) sendHello(ctx context.Context) error {
	body := make([]byte, helloSize)
	_, _ = rand.Read(body) // never fails
	sum := sha256.Sum256(body)
	return d.send(ctx, stepHello, hello{d.nonce, d.now(), sum[:]}, body)
}

func (d *peerProbe) receiveHello(ctx context.Context) error {
	var h hello
	body, err := d.receive(ctx, stepHello, &h)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(body); len(body) != helloSize || string(sum[:]) != string(h.Digest) {
		return fmt.Errorf("a message from %s arrived corrupted", d.partner)
	}
	d.partnerNonce = h.Nonce
	return nil
}

// compareClocks returns how far the other party's clock is ahead, and the round trip of that measurement. It
// uses the algorithm of NTP: the offset is taken from the ping with the shortest round trip.
func (d *peerProbe) compareClocks(ctx context.Context) (offset, trip time.Duration, err error) {
	if !d.pingsFirst {
		if err := d.answerPings(ctx); err != nil {
			return 0, 0, err
		}
	}

	for round := range pings {
		sent := ping{d.nonce, round}
		sentAt := d.now()
		if err := d.send(ctx, stepPing, sent, nil); err != nil {
			return 0, 0, err
		}

		var p pong
		if _, err := d.receive(ctx, stepPong, &p); err != nil {
			return 0, 0, err
		}
		receivedAt := d.now()
		if p.ping != sent {
			return 0, 0, fmt.Errorf("%s answered a ping that was not sent", d.partner)
		}

		// Exclude the time that the other party took to answer.
		t := receivedAt.Sub(sentAt) - p.Left.Sub(p.Came)
		if t < 0 {
			return 0, 0, errors.New(
				"a response arrived before its request: a clock was set during the measurement")
		}
		if round == 0 || t < trip {
			trip = t
			offset = (p.Came.Sub(sentAt) + p.Left.Sub(receivedAt)) / 2
		}
	}

	if d.pingsFirst {
		err = d.answerPings(ctx)
	}
	return offset, trip, err
}

// answerPings answers the pings of the other party.
func (d *peerProbe) answerPings(ctx context.Context) error {
	for round := range pings {
		var p ping
		if _, err := d.receive(ctx, stepPing, &p); err != nil {
			return err
		}
		receivedAt := d.now()
		if p != (ping{d.partnerNonce, round}) {
			return fmt.Errorf("%s sent an unexpected ping", d.partner)
		}
		if err := d.send(ctx, stepPong, pong{p, receivedAt, d.now()}, nil); err != nil {
			return err
		}
	}
	return nil
}
