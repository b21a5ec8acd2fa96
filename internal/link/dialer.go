package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"hutong/internal/httpguard"
)

// Path begins the paths at which a holder serves the other processes of its party: /link for the states of
// the links, /link/NODE/SERVICE for a connection.
const Path = "/link"

// maxStates bounds what is read of the states of links.
const maxStates = 1 << 20

// IsPath reports whether a path is one of [Holder.ServeHTTP].
func IsPath(path string) bool { return path == Path || strings.HasPrefix(path, Path+"/") }

// ServeHTTP serves the other processes of this party, see [Path]. The caller has determined that the request
// comes from one. What it sends passes through unread.
func (h *Holder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	partner, service, found := strings.Cut(strings.TrimPrefix(httpguard.CleanPath(r.URL.Path), Path+"/"), "/")
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "must be GET", http.StatusMethodNotAllowed)
	case r.URL.Path == Path:
		WriteStates(w, h.States())
	case !found || !asksFor(r, upgradeConnection):
		http.Error(w, "no such route", http.StatusNotFound)
	default:
		h.relay(w, r, partner, Service(service))
	}
}

func (h *Holder) relay(w http.ResponseWriter, r *http.Request, partner string, service Service) {
	over, err := h.Dial(r.Context(), partner, service)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	conn, err := acceptUpgrade(w, upgradeConnection)
	if err != nil {
		_ = over.Close()
		return
	}
	splice(conn, over)
}

// WriteStates answers a request with the states of links.
func WriteStates(w http.ResponseWriter, states []State) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(states)
}

// ReadStates reads an answer of [WriteStates].
func ReadStates(resp *http.Response) ([]State, error) {
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStates))
	if err != nil {
		return nil, fmt.Errorf("failed to read the states of links: %w", err)
	}
	var states []State
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %.200s", resp.StatusCode, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, &states); err != nil {
		return nil, fmt.Errorf("failed to read the states of links: %w", err)
	}
	return states, nil
}

// Dialer opens connections over the links that the party's processes hold. It is safe for concurrent use.
type Dialer struct {
	// Own holds the links of this process, or is nil.
	Own *Holder
	// Others returns the addresses of the party's other holders, as host:port.
	Others func(context.Context) ([]string, error)
	// Sender sends requests to them, and proves that they come from a process of the party.
	Sender http.RoundTripper

	mu   sync.Mutex
	last map[string]string // by partner and service: the holder that had a link
}

// Dial opens a connection to a service of a partner. It tries this process, the holder that had a link
// before, and then the others.
func (d *Dialer) Dial(ctx context.Context, partner string, service Service) (net.Conn, error) {
	var failures []error
	if d.Own != nil {
		conn, err := d.Own.Dial(ctx, partner, service)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	key := partner + "/" + string(service)
	d.mu.Lock()
	last := d.last[key]
	d.mu.Unlock()
	others, err := d.Others(ctx)
	if err != nil {
		failures = append(failures, fmt.Errorf("failed to find the party's transports: %w", err))
	}
	if last != "" {
		others = append([]string{last}, others...)
	}
	tried := map[string]bool{}
	for _, address := range others {
		if tried[address] || ctx.Err() != nil {
			continue
		}
		tried[address] = true
		conn, err := d.dialAt(ctx, address, key)
		if err == nil {
			d.remember(key, address)
			return conn, nil
		}
		failures = append(failures, fmt.Errorf("transport %s: %w", address, err))
	}
	d.remember(key, "")
	if len(failures) == 0 {
		failures = []error{errNoLink}
	}
	return nil, dialError(partner, service, errors.Join(append(failures, ctx.Err())...))
}

func (d *Dialer) dialAt(ctx context.Context, address, key string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, errors.New("it does not answer"))
	defer cancel()
	return askUpgrade(ctx, d.Sender, "http://"+address+Path+"/"+key, upgradeConnection, nil)
}

func (d *Dialer) remember(key, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = map[string]string{}
	}
	d.last[key] = address
}

// States returns the links of all holders that answer, and why the others do not.
func (d *Dialer) States(ctx context.Context) ([]State, error) {
	var states []State
	if d.Own != nil {
		states = d.Own.States()
	}
	others, err := d.Others(ctx)
	failures := []error{err}
	for _, address := range others {
		found, err := d.statesAt(ctx, address)
		if err != nil {
			failures = append(failures, fmt.Errorf("transport %s: %w", address, err))
		}
		states = append(states, found...)
	}
	return states, errors.Join(failures...)
}

func (d *Dialer) statesAt(ctx context.Context, address string) ([]State, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+Path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.Sender.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return ReadStates(resp)
}
