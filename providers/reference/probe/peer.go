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

// Steps of the exchange; see the package's comment.
const (
	stepHello = "hello"
	stepHeard = "heard"
	stepPing  = "ping"
	stepPong  = "pong"
	stepDone  = "done"
)

const (
	helloSize = 1 << 20
	rounds    = 5
)

type hello struct {
	Nonce  string    `json:"nonce"`
	Time   time.Time `json:"time"`
	Digest []byte    `json:"digest"` // SHA-256 of the body
}

type heard struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"`
}

type ping struct {
	Nonce string `json:"nonce"`
	Round int    `json:"round"`
}

type pong struct {
	ping
	Came time.Time `json:"came"` // the ping, by the answering party's clock
	Left time.Time `json:"left"`
}

// dialogue is the exchange with one other party.
type dialogue struct {
	ctx     context.Context // ends when the other party fails
	config  channel.Config
	link    *channel.Link
	err     error // there is no link
	who     string
	first   bool // pings first
	timeout time.Duration
	now     func() time.Time // the clock here
	nonce   string
	theirs  string // nonce; empty while nothing came
}

// open begins the exchange.
func open(ctx context.Context, c channel.Config, timeout time.Duration, now func() time.Time) *dialogue {
	c.Patience, c.TransportPatience = timeout, timeout
	d := &dialogue{config: c, who: c.Partner, first: c.Self < c.Partner, timeout: timeout, nonce: rand.Text(), now: now}
	d.link, d.ctx, d.err = channel.Open(ctx, c)
	return d
}

func (d *dialogue) close() {
	if d.link != nil {
		d.link.Close()
	}
}

// done waits, when the other party can be heard, until it has written its report, and tells it that this one has.
func (d *dialogue) done() {
	if d.err != nil {
		return
	}
	sendErr := d.send(d.ctx, stepDone, struct{}{}, nil)
	if d.theirs != "" && sendErr == nil {
		if _, err := d.receive(d.ctx, stepDone, &struct{}{}); err != nil {
			slog.Debug("did not hear of the other's report", "peer", d.who, "error", err.Error())
		}
	}
}

// run tries the transport in both directions, and compares clocks.
func (d *dialogue) run(maxOffset time.Duration) []Check {
	ctx, c := d.ctx, d.config
	check := func(name string) Check { return Check{Name: name, Peer: c.Partner, PeerNodeID: c.OtherNode} }
	from, to, clock := check("transport_from"), check("transport_to"), check("clock")
	if d.err != nil {
		return []Check{from.failed(d.err), to.failed(d.err)}
	}
	sendErr := d.sendHello(ctx)
	fromErr := d.receiveHello(ctx)
	h := heard{OK: fromErr == nil}
	if fromErr != nil {
		h.Why = "nothing whole came from there"
		from = from.failed(fromErr)
	} else {
		from.OK = true
	}
	if err := d.send(ctx, stepHeard, h, nil); sendErr == nil {
		sendErr = err
	}
	if sendErr != nil {
		return []Check{from, to.failed(sendErr)}
	}
	var they heard
	if _, err := d.receive(ctx, stepHeard, &they); err != nil {
		return []Check{from, to.failed(fmt.Errorf("%s does not say whether anything arrived: %w", c.Partner, err))}
	}
	if !they.OK {
		return []Check{from, to.failed(fmt.Errorf("%s waited and says: %s", c.Partner, they.Why))}
	}
	if fromErr != nil {
		to.OK = true
		return []Check{from, to}
	}
	offset, trip, err := d.compareClocks(ctx)
	if err != nil {
		return []Check{from, to.failed(err)}
	}
	clock.OK = true
	clock.Offset, clock.Uncertainty = milliseconds(offset), milliseconds(trip/2)
	if beyond := offset.Abs() - trip/2; beyond > maxOffset {
		side := "ahead of"
		if offset < 0 {
			side = "behind"
		}
		clock = clock.failed(fmt.Errorf("the clock of %s is %s %s the one here, more than %s: set both by NTP", c.Partner, offset.Abs().Round(time.Millisecond), side, maxOffset))
	}
	return []Check{from, to.took(trip), clock}
}

func (d *dialogue) send(ctx context.Context, step string, head any, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, fmt.Errorf("the transport did not take it for %s", d.timeout))
	defer cancel()
	return d.link.Send(ctx, step, head, body)
}

func (d *dialogue) receive(ctx context.Context, step string, head any) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, fmt.Errorf("nothing came for %s", d.timeout))
	defer cancel()
	return d.link.Receive(ctx, step, head)
}

func (d *dialogue) sendHello(ctx context.Context) error {
	body := make([]byte, helloSize)
	_, _ = rand.Read(body) // never fails
	sum := sha256.Sum256(body)
	return d.send(ctx, stepHello, hello{d.nonce, d.now(), sum[:]}, body)
}

func (d *dialogue) receiveHello(ctx context.Context) error {
	var h hello
	body, err := d.receive(ctx, stepHello, &h)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(body); len(body) != helloSize || string(sum[:]) != string(h.Digest) {
		return fmt.Errorf("a message of %s arrived changed", d.who)
	}
	d.theirs = h.Nonce
	return nil
}

// compareClocks returns by how much the other's clock is ahead, and the round trip by which that was found.
func (d *dialogue) compareClocks(ctx context.Context) (offset, trip time.Duration, err error) {
	if !d.first {
		if err := d.answerPings(ctx); err != nil {
			return 0, 0, err
		}
	}
	for round := range rounds {
		asked := ping{d.nonce, round}
		left := d.now()
		if err := d.send(ctx, stepPing, asked, nil); err != nil {
			return 0, 0, err
		}
		var p pong
		if _, err := d.receive(ctx, stepPong, &p); err != nil {
			return 0, 0, err
		}
		came := d.now()
		if p.ping != asked {
			return 0, 0, fmt.Errorf("%s answered another ping than the one that was sent", d.who)
		}
		// What the other took is not part of the trip.
		t := came.Sub(left) - p.Left.Sub(p.Came)
		if t < 0 {
			return 0, 0, errors.New("an answer that came before it was asked for: a clock was set meanwhile")
		}
		if round == 0 || t < trip {
			trip = t
			offset = (p.Came.Sub(left) + p.Left.Sub(came)) / 2
		}
	}
	if d.first {
		err = d.answerPings(ctx)
	}
	return offset, trip, err
}

func (d *dialogue) answerPings(ctx context.Context) error {
	for round := range rounds {
		var p ping
		if _, err := d.receive(ctx, stepPing, &p); err != nil {
			return err
		}
		came := d.now()
		if p != (ping{d.theirs, round}) {
			return fmt.Errorf("%s sent another ping than the one that was due", d.who)
		}
		if err := d.send(ctx, stepPong, pong{p, came, d.now()}, nil); err != nil {
			return err
		}
	}
	return nil
}
