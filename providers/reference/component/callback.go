package component

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The final states that a container reports.
const (
	StatusSuccess = "SUCCESS"
	StatusFailed  = "FAILED"
)

// Five attempts with pauses of about seven seconds in total. The exit code reports the same result. A
// scheduler that is unreachable for longer learns the result from it.
const (
	callbackAttempts = 5
	callbackPause    = 500 * time.Millisecond
	callbackTimeout  = 10 * time.Second
)

// ReportStatus sends the task's final status to system.callback (API_SPECS, part 3). Without that address it
// does nothing. It retries a few times and then returns the last error. It does not retry a request that is
// refused with 4xx.
func (t Task) ReportStatus(ctx context.Context, status string) error {
	if t.Callback == "" {
		return nil
	}
	body, err := json.Marshal(
		map[string]string{"task_id": t.TaskID, "status": status, "role": t.Self.String()},
	)
	if err != nil {
		return err
	}
	pause := callbackPause
	for attempt := 1; ; attempt++ {
		again, err := postCallback(ctx, t.Callback, body)
		if err == nil {
			return nil
		}
		if !again || attempt == callbackAttempts {
			return fmt.Errorf("failed to report %s, attempt %d: %w", status, attempt, err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return fmt.Errorf("failed to report %s: %w", status, context.Cause(ctx))
		}
	}
}

// PartyClient sends requests to the container's own party. It never uses a proxy, whatever the environment of
// the container says.
var PartyClient = &http.Client{Transport: &http.Transport{}}

// postCallback sends the callback once. again reports whether a failure is retryable.
func postCallback(ctx context.Context, address string, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := PartyClient.Do(req)
	if err != nil {
		return true, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return true, err
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode >= 500, fmt.Errorf("the scheduler answered HTTP %d", resp.StatusCode)
	}

	// The envelope's code is 0 for success. Some schedulers send 200 instead.
	var envelope struct{ Code *float64 }
	if json.Unmarshal(answer, &envelope) == nil && envelope.Code != nil && *envelope.Code != 0 &&
		*envelope.Code != 200 {
		return true, fmt.Errorf("the scheduler answered code %v", *envelope.Code)
	}
	return false, nil
}
