package limits

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hutong/internal/identity"
)

// Config holds the limits of each caller. 0 means no limit.
type Config struct {
	// Requests is the number of requests per second in the long run, Burst that at once. Messages to the
	// transport have the same, apart from other requests.
	Requests float64
	Burst    int
	// Uploads is the number of uploads at the same time, UploadBytes what they may hold in a day.
	Uploads     int
	UploadBytes int64
	// Streams is the number of event streams that a caller reads at the same time.
	Streams int
	// TransferBytes is the number of bytes per second that a partner may send to the transport.
	TransferBytes int64
}

// Limiter keeps the budgets of all callers. It is safe for concurrent use.
type Limiter struct {
	cfg Config
	now func() time.Time

	mu      sync.Mutex
	callers map[string]*caller
	swept   time.Time
}

// caller is the budget of one caller. Limiter.mu guards all but the rates.
type caller struct {
	requests, messages, transfer *rate.Limiter

	waiting          fairQueue // of messages
	uploads, streams int
	uploaded         int64
	day              time.Time // on which they were uploaded
	used             time.Time
}

const (
	// forgetAfter is the idle time after which a caller's budget is forgotten; it is full again then.
	forgetAfter = 10 * time.Minute
	// maxCallers bounds the budgets in memory. Callers are authenticated, so only containers could be many.
	maxCallers = 100_000
)

// New returns a limiter.
func New(cfg Config) *Limiter {
	return &Limiter{cfg: cfg, now: time.Now, callers: map[string]*caller{}}
}

// Exceeded says which limit a caller has exceeded, and when it may try again.
type Exceeded struct {
	Field string // of the configuration; empty if the limit is none of those
	What  string
	After time.Duration
}

// Error names the limit and the time.
func (e *Exceeded) Error() string {
	what := e.What
	if e.Field != "" {
		what += fmt.Sprintf(" (%s of this party)", e.Field)
	}
	return fmt.Sprintf("%s; try again in %s", what, e.After.Round(time.Second))
}

// Seconds returns the value of the header Retry-After.
func (e *Exceeded) Seconds() int { return max(1, int(math.Ceil(e.After.Seconds()))) }

// budget returns the budget of a caller, or nil for the party's own processes. The caller holds the lock.
func (l *Limiter) budget(p identity.Principal) *caller {
	if p.Proof == identity.ByProcess {
		return nil
	}
	now := l.now()
	if now.Sub(l.swept) > time.Minute || len(l.callers) > maxCallers {
		l.swept = now
		for key, c := range l.callers {
			today := c.uploaded > 0 && now.Sub(c.day) < 24*time.Hour
			if now.Sub(c.used) > forgetAfter && c.uploads+c.streams+c.waiting.length == 0 && !today {
				delete(l.callers, key)
			}
		}
	}
	key := keyOf(p)
	c := l.callers[key]
	if c == nil {
		c = &caller{requests: newRate(l.cfg.Requests, l.cfg.Burst),
			messages: newRate(l.cfg.Requests, l.cfg.Burst),
			transfer: newRate(float64(l.cfg.TransferBytes), int(min(l.cfg.TransferBytes, math.MaxInt32)))}
		l.callers[key] = c
	}
	c.used = now
	return c
}

func newRate(perSecond float64, burst int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))
}

// keyOf identifies whose budget a request uses: a partner, a client, or a container's address.
func keyOf(p identity.Principal) string {
	switch p.Kind {
	case identity.KindPartner:
		return "partner " + p.Node
	case identity.KindClient:
		return "client " + p.Name
	}
	return string(p.Kind) + " " + p.Address
}

// fieldRequests is the field of the configuration with the rate of requests and of messages.
const fieldRequests = "limits.requests_per_second"

// Request counts a request of a caller. Its error is an [*Exceeded].
func (l *Limiter) Request(p identity.Principal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.budget(p)
	if c == nil {
		return nil
	}
	now := l.now()
	if c.requests.AllowN(now, 1) {
		return nil
	}
	return &Exceeded{Field: fieldRequests, After: nextIn(c.requests, now),
		What: fmt.Sprintf("too many requests of %s", p)}
}

// Upload counts an upload of a caller, until release is called. Its error is an [*Exceeded].
func (l *Limiter) Upload(p identity.Principal) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.budget(p)
	if c == nil || l.cfg.Uploads <= 0 {
		return func() {}, nil
	}
	if c.uploads >= l.cfg.Uploads {
		return nil, &Exceeded{Field: "limits.uploads", After: 10 * time.Second,
			What: fmt.Sprintf("%s has %d uploads in progress", p, c.uploads)}
	}
	c.uploads++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.uploads--
	}), nil
}

// Stream counts an event stream of a caller, until release is called. Its error is an [*Exceeded].
func (l *Limiter) Stream(p identity.Principal) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.budget(p)
	if c == nil || l.cfg.Streams <= 0 {
		return func() {}, nil
	}
	if c.streams >= l.cfg.Streams {
		return nil, &Exceeded{Field: "limits.event_streams", After: 10 * time.Second,
			What: fmt.Sprintf("%s reads %d event streams", p, c.streams)}
	}
	c.streams++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.streams--
	}), nil
}

// Uploaded counts n bytes of a caller's uploads. Its error is an [*Exceeded].
func (l *Limiter) Uploaded(p identity.Principal, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.budget(p)
	if c == nil || l.cfg.UploadBytes <= 0 {
		return nil
	}
	now := l.now()
	if now.Sub(c.day) >= 24*time.Hour {
		c.day, c.uploaded = now, 0
	}
	c.uploaded += int64(n)
	if c.uploaded > l.cfg.UploadBytes {
		return &Exceeded{Field: "limits.upload_mib_per_day", After: c.day.Add(24 * time.Hour).Sub(now),
			What: fmt.Sprintf("%s has uploaded more than %d bytes in a day", p, l.cfg.UploadBytes)}
	}
	return nil
}

// Transfer returns a reader of what a caller sends, which waits as the caller's budget demands. The sender is
// slowed down by that; nothing is refused.
func (l *Limiter) Transfer(ctx context.Context, p identity.Principal, r io.ReadCloser) io.ReadCloser {
	if l.cfg.TransferBytes <= 0 {
		return r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.budget(p)
	if c == nil {
		return r
	}
	return &transfer{ReadCloser: r, ctx: ctx, rate: c.transfer}
}

type transfer struct {
	io.ReadCloser
	ctx  context.Context
	rate *rate.Limiter
}

// transferPiece bounds what is read at once, so that a caller's requests take turns.
const transferPiece = 256 << 10

func (t *transfer) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b[:min(len(b), transferPiece, t.rate.Burst())])
	if n > 0 {
		if waitErr := t.rate.WaitN(t.ctx, n); waitErr != nil {
			return n, waitErr
		}
	}
	return n, err
}
