package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Config of a link. Roles are written with their number: guest.0.
type Config struct {
	Transport            string // host:port of one's own party's transport
	SessionID, TaskID    string
	TraceID, Token       string
	Self, SelfNode       string
	Partner, PartnerNode string

	// ReceiveTimeout is how long one Receive waits for the partner. Zero: 10 hours, since training can be long and a
	// partner that died without a word is found by the scheduler, which then stops this side.
	ReceiveTimeout time.Duration
	// TransportTimeout is how long the transport may be out of reach. Zero: 2 minutes, enough for a restart.
	TransportTimeout time.Duration
}

// Error is a failure that the partner may be told in these words. All other errors stay at home, since they can carry
// paths, addresses or column names: the partner is told only that something failed.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// Errorf makes an [Error].
func Errorf(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// PartnerError is what ends this side when the partner has failed.
type PartnerError struct{ Partner, Reason string }

func (e *PartnerError) Error() string { return fmt.Sprintf("%s failed: %s", e.Partner, e.Reason) }

// Link is a connection to one partner.
type Link struct {
	config   Config
	endpoint *endpoint
	stop     context.CancelCauseFunc
	watcher  sync.WaitGroup

	instance instance // of this side
	mu       sync.Mutex
	partner  instance          // of the other side, once something came
	sent     map[string]uint64 // chunks pushed, by step
	received map[string]*assembler
}

const stepAbort = "abort"

// Open begins a link. The context that it returns ends, with a [PartnerError] as its cause, when the partner fails:
// all work of the task should run under it. Close the link in the end.
func Open(ctx context.Context, c Config) (*Link, context.Context, error) {
	for name, value := range map[string]string{
		"system.transport": c.Transport, "config.session_id": c.SessionID, "config.task_id": c.TaskID,
		"config.node_id of " + c.Self: c.SelfNode, "config.node_id of " + c.Partner: c.PartnerNode,
	} {
		if value == "" {
			return nil, nil, fmt.Errorf("variable %s is missing: it is needed to reach %s", name, c.Partner)
		}
	}
	if c.ReceiveTimeout == 0 {
		c.ReceiveTimeout = 10 * time.Hour
	}
	if c.TransportTimeout == 0 {
		c.TransportTimeout = 2 * time.Minute
	}
	ctx, stop := context.WithCancelCause(ctx)
	l := &Link{
		config: c, endpoint: newEndpoint(c), stop: stop, instance: newInstance(),
		sent: map[string]uint64{}, received: map[string]*assembler{},
	}
	l.watcher.Add(1)
	go l.watch(ctx)
	return l, ctx, nil
}

func (l *Link) outTopic(step string) string {
	return l.config.TaskID + "/" + l.config.Self + "/" + l.config.Partner + "/" + step
}

func (l *Link) inTopic(step string) string {
	return l.config.TaskID + "/" + l.config.Partner + "/" + l.config.Self + "/" + step
}

// Send hands a message to the partner: a head that is marshalled to JSON, and bytes. It returns when the transport has
// taken it. Messages of one step arrive in the order in which they were sent. One Send at a time.
func (l *Link) Send(ctx context.Context, step string, head any, body []byte) error {
	message, err := encodeMessage(head, body)
	if err != nil {
		return fmt.Errorf("send %s: %w", step, err)
	}
	for last := false; !last; {
		part := message[:min(len(message), ChunkSize-chunkHeader)]
		message = message[len(part):]
		last = len(message) == 0
		l.mu.Lock()
		number := l.sent[step]
		l.sent[step]++
		l.mu.Unlock()
		if err := l.endpoint.push(ctx, l.config.PartnerNode, l.outTopic(step), encodeChunk(l.instance, number, last, part)); err != nil {
			return fmt.Errorf("send %s to %s: %w", step, l.config.Partner, err)
		}
	}
	return nil
}

// Receive waits for the partner's next message of a step, decodes its head and returns its bytes. One Receive at a time.
func (l *Link) Receive(ctx context.Context, step string, head any) ([]byte, error) {
	l.mu.Lock()
	in := l.received[step]
	if in == nil {
		in = &assembler{from: &l.partner}
		l.received[step] = in
	}
	l.mu.Unlock()
	giveUp := time.Now().Add(l.config.ReceiveTimeout)
	for {
		if m, ok := in.take(); ok {
			body, err := decodeMessage(m, head)
			if err != nil {
				return nil, Errorf("%s of %s: %v", step, l.config.Partner, err)
			}
			return body, nil
		}
		b, err := l.endpoint.pop(ctx, l.config.SelfNode, l.inTopic(step))
		if err == nil {
			if err := in.add(b); err != nil {
				return nil, Errorf("%s of %s: %v", step, l.config.Partner, err)
			}
			continue
		}
		if !errors.Is(err, errEmpty) {
			return nil, fmt.Errorf("receive %s from %s: %w", step, l.config.Partner, err)
		}
		if time.Now().After(giveUp) {
			if len(in.ahead) > 0 {
				return nil, Errorf("%s of %s: chunk %d was lost, later ones came", step, l.config.Partner, in.next)
			}
			return nil, Errorf("%s of %s: nothing came for %s", step, l.config.Partner, l.config.ReceiveTimeout)
		}
	}
}

type abortMessage struct {
	Reason string `json:"reason"`
}

// watch waits for the partner's word that it failed.
func (l *Link) watch(ctx context.Context) {
	defer l.watcher.Done()
	for ctx.Err() == nil {
		b, err := l.endpoint.pop(ctx, l.config.SelfNode, l.inTopic(stepAbort))
		switch {
		case err == nil:
			m := abortMessage{Reason: "it gave no reason"}
			_ = json.Unmarshal(b, &m)
			l.stop(&PartnerError{l.config.Partner, truncate(m.Reason)})
			return
		case errors.Is(err, errEmpty), ctx.Err() != nil:
		default:
			// Send and Receive meet the same trouble and judge it; this is no more than a watch.
			slog.Warn("can't watch for the partner's end", "partner", l.config.Partner, "error", err.Error())
			_ = sleep(ctx, maxBackoff)
		}
	}
}

// Abort tells the partner that this side failed, so that it doesn't wait. It tells the reason only when the error is, or
// wraps, an [Error]. It gives up after the limit; it does nothing when the partner itself failed first.
func (l *Link) Abort(err error, limit time.Duration) {
	if partner := (*PartnerError)(nil); errors.As(err, &partner) {
		return
	}
	m := abortMessage{Reason: "an error of its own; its log tells more"}
	if shared := (*Error)(nil); errors.As(err, &shared) {
		m.Reason = shared.Reason
	}
	payload, err := json.Marshal(m)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := l.endpoint.push(ctx, l.config.PartnerNode, l.outTopic(stepAbort), payload); err != nil {
		slog.Warn("could not tell the partner that this side failed", "partner", l.config.Partner, "error", err.Error())
	}
}

// releaseTimeout bounds the courtesy of Close.
const releaseTimeout = 2 * time.Second

// Close ends the link and frees the topics that this side read from.
func (l *Link) Close() {
	l.stop(context.Canceled)
	l.watcher.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	steps := []string{stepAbort}
	for step := range l.received {
		steps = append(steps, step)
	}
	for _, step := range steps {
		if err := l.endpoint.release(ctx, l.config.SelfNode, l.inTopic(step)); err != nil {
			slog.Debug("release", "step", step, "error", err.Error())
			return
		}
	}
	l.endpoint.client.CloseIdleConnections()
}
