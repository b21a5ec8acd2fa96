package placement

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// FindRunning returns a transport that sends heartbeats while this function watches them, for some seconds,
// or nil. The database may be one that was restored: what it says of them is of the past.
func FindRunning(ctx context.Context, db Store) (*store.Transport, error) {
	const poll, watch = heartbeat / 4, 5 * heartbeat / 2
	before, err := db.Transports(ctx)
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(watch); time.Now().Before(until); {
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		now, err := db.Transports(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range now {
			was := find(before, t.VolumeID)
			beats := was.Instance != t.Instance || t.HeartbeatAt.After(was.HeartbeatAt)
			if beats && !t.Single && !t.Stopped {
				return &t, nil
			}
		}
	}
	return nil, nil
}

// Probe sends the transport at a base URL a message without a session, and returns an error unless it rejects
// it as a transport does, with a code that starts with E (BFIA specification, part 4).
func Probe(ctx context.Context, over http.RoundTripper, from, to, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		strings.TrimRight(base, "/")+"/v1/interconn/chan/invoke", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	bfia.SetHeaders(req.Header, from, to, "probe", time.Now())
	resp, err := over.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	var rejection struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(answer, &rejection); err != nil || !strings.HasPrefix(rejection.Code, "E") {
		return fmt.Errorf("%s answers HTTP, but is not a transport: %.100q", base, answer)
	}
	return nil
}
