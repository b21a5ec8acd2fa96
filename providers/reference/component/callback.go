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

// The two ends that a container tells of.
const (
	StatusSuccess = "SUCCESS"
	StatusFailed  = "FAILED"
)

// Five attempts, about seven seconds of pauses. The exit code tells the same, so a scheduler that is away for longer
// learns it from there.
const (
	callbackAttempts = 5
	callbackPause    = 500 * time.Millisecond
	callbackTimeout  = 10 * time.Second
)

// Report tells system.callback how the task ended; without that address it does nothing. It tries a few times and
// then returns the last error. A request that is refused for good (4xx) is not sent again.
func (t Task) Report(ctx context.Context, status string) error {
	if t.Callback == "" {
		return nil
	}
	body, err := json.Marshal(map[string]string{"task_id": t.TaskID, "status": status, "role": t.Self.String()})
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
			return fmt.Errorf("callback %s, attempt %d: %w", status, attempt, err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return fmt.Errorf("callback %s: %w", status, context.Cause(ctx))
		}
	}
}

func postCallback(ctx context.Context, address string, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
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
	// The envelope's code is 0 for success; some schedulers answer 200.
	var envelope struct{ Code *float64 }
	if json.Unmarshal(answer, &envelope) == nil && envelope.Code != nil && *envelope.Code != 0 && *envelope.Code != 200 {
		return true, fmt.Errorf("the scheduler answered code %v", *envelope.Code)
	}
	return false, nil
}
