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

// Config holds the configuration of a link. Roles include their number: guest.0.
type Config struct {
	Transport            string // host:port of the transport of the own party
	SessionID, TaskID    string
	TraceID, Token       string
	Self, SelfNode       string
	Partner, PartnerNode string

	// ReceiveTimeout limits one Receive. Zero means 10 hours: training can take long, and the scheduler
	// detects a partner that died without a report and then stops this side.
	ReceiveTimeout time.Duration
	// TransportTimeout limits how long the transport may be unreachable. Zero means 2 minutes, enough for a
	// restart.
	TransportTimeout time.Duration
}

// Error is a failure whose message may be sent to the partner. All other errors stay at this party, because
// they can contain paths, addresses or column names. For those, the partner learns only that something
// failed.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// Errorf returns an [Error].
func Errorf(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// PartnerError reports that the partner failed. It ends this side, too.
type PartnerError struct{ Partner, Reason string }

func (e *PartnerError) Error() string { return fmt.Sprintf("%s failed: %s", e.Partner, e.Reason) }

// Link is a connection to one partner.
type Link struct {
	config   Config
	endpoint *endpoint
	stop     context.CancelCauseFunc
	watcher  sync.WaitGroup

	instance instance // of this process
	mu       sync.Mutex
	partner  instance          // of the partner's process, after its first message
	sent     map[string]uint64 // chunks pushed, by step
	received map[string]*assembler
}

const stepAbort = "abort"

// Open opens a link. The context that it returns ends when the partner fails, with a [PartnerError] as its
// cause. All work of the task should run under this context. The caller must close the link.
func Open(ctx context.Context, c Config) (*Link, context.Context, error) {
	for name, value := range map[string]string{
		"system.transport": c.Transport, "config.session_id": c.SessionID, "config.task_id": c.TaskID,
		"config.node_id of " + c.Self: c.SelfNode, "config.node_id of " + c.Partner: c.PartnerNode,
	} {
		if value == "" {
			return nil, nil, fmt.Errorf("variable %s is missing: it is required to reach %s", name, c.Partner)
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

// Send sends a message to the partner: a head that is marshalled to JSON, and a body of bytes. It returns
// when the transport has accepted the message. Messages of one step arrive in the order in which they were
// sent. Only one Send may run at a time.
func (l *Link) Send(ctx context.Context, step string, head any, body []byte) error {
	message, err := encodeMessage(head, body)
	if err != nil {
		return fmt.Errorf("failed to encode %s: %w", step, err)
	}
	for last := false; !last; {
		part := message[:min(len(message), ChunkSize-chunkHeader)]
		message = message[len(part):]
		last = len(message) == 0
		l.mu.Lock()
		number := l.sent[step]
		l.sent[step]++
		l.mu.Unlock()

		chunk := encodeChunk(l.instance, number, last, part)
		if err := l.endpoint.push(ctx, l.config.PartnerNode, l.outTopic(step), chunk); err != nil {
			return fmt.Errorf("failed to send %s to %s: %w", step, l.config.Partner, err)
		}
	}
	return nil
}

// Receive waits for the partner's next message of a step, decodes its head and returns its body. Only one
// Receive may run at a time.
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
			return nil, fmt.Errorf("failed to receive %s from %s: %w", step, l.config.Partner, err)
		}
		if time.Now().After(giveUp) {
			if len(in.ahead) > 0 {
				return nil, Errorf(
					"%s of %s: chunk %d was lost; later chunks arrived", step, l.config.Partner, in.next,
				)
			}
			return nil, Errorf(
				"%s of %s: no message arrived within %s", step, l.config.Partner, l.config.ReceiveTimeout,
			)
		}
	}
}

type abortMessage struct {
	Reason string `json:"reason"`
}

// watch polls for the partner's report of a failure and then ends the link's context.
func (l *Link) watch(ctx context.Context) {
	defer l.watcher.Done()
	for ctx.Err() == nil {
		b, err := l.endpoint.pop(ctx, l.config.SelfNode, l.inTopic(stepAbort))
		switch {
		case err == nil:
			m := abortMessage{Reason: "no reason given"}
			_ = json.Unmarshal(b, &m)
			l.stop(&PartnerError{l.config.Partner, truncate(m.Reason)})
			return
		case errors.Is(err, errEmpty), ctx.Err() != nil:
		default:
			// Send and Receive meet the same problem and decide whether it is fatal.
			slog.Warn(
				"failed to poll for the partner's failure", "partner", l.config.Partner, "error", err.Error(),
			)
			_ = sleep(ctx, maxBackoff)
		}
	}
}

// Abort notifies the partner that this side failed, so that the partner does not wait. It sends the reason
// only if the error is, or wraps, an [Error]. It gives up after the limit. It does nothing if the partner
// itself failed first.
func (l *Link) Abort(err error, limit time.Duration) {
	if partner := (*PartnerError)(nil); errors.As(err, &partner) {
		return
	}
	m := abortMessage{Reason: "an internal error; see its log"}
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
		slog.Warn(
			"failed to notify the partner of the failure", "partner", l.config.Partner, "error", err.Error(),
		)
	}
}

// releaseTimeout limits the clean-up by Close.
const releaseTimeout = 2 * time.Second

// Close closes the link and releases the topics from which this side reads.
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
			slog.Debug("failed to release a topic", "step", step, "error", err.Error())
			return
		}
	}
	l.endpoint.client.CloseIdleConnections()
}
