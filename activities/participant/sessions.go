package participant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"hutong/bfia"
	"hutong/store"
)

const (
	// maxTransfers bounds the transport's answer to a release.
	maxTransfers = 16 << 20
	// otherLimit bounds the release at a transport that does not hold the session: one whose machine is gone
	// must not delay the job's end, nor use up the time of a local activity.
	otherLimit = time.Second
)

// ReleaseSessionInput names a session of the party's transport.
type ReleaseSessionInput struct {
	Session string `json:"session"`
	// Uncounted is set after a restore, which has lost the bytes that the transports had counted: none are
	// recorded, so that the job's evidence does not say that it has all of them.
	Uncounted bool `json:"uncounted,omitempty"`
}

// ReleaseSession ends a job's session in the party's own transports, with the messages that were not read
// (BFIA part 4, 3.2.4), and records the bytes that it has exchanged with partners. It fails if the transport
// that holds the session does not release it. The others may have one of that name from before a restore. One
// that does not answer releases it later, when it finds that the job has ended.
func (a *Activities) ReleaseSession(ctx context.Context, in ReleaseSessionInput) error {
	// It ends the session, and not only its messages. Containers may have derived sessions of their own from
	// it.
	final := "derived"
	jobID := strings.TrimPrefix(in.Session, bfia.SessionID(""))
	if other, err := a.Store.HasUnfinishedJobLike(ctx, jobID+bfia.DerivedSession); err != nil {
		return err
	} else if other {
		// they can't be distinguished from the sessions of the other job; they expire when idle
		final = "true"
	}
	holder, others, err := a.Holders(ctx, in.Session)
	if err != nil {
		return fmt.Errorf("failed to find the transport of session %s: %w", in.Session, err)
	}

	var released releases
	var running sync.WaitGroup
	for _, transport := range others {
		running.Go(func() {
			limited, cancel := context.WithTimeout(ctx, otherLimit)
			defer cancel()
			transfers, _, err := a.releaseAt(limited, transport, in.Session, final)
			released.add(transfers, err)
		})
	}
	if holder != "" {
		transfers, counted, err := a.releaseAt(ctx, holder, in.Session, final)
		running.Wait()
		if err != nil {
			return err
		}
		if !counted && !in.Uncounted {
			a.Logger.Warn("the transport has not reported the bytes of a session; the job's evidence lacks them",
				"session_id", in.Session)
			return nil
		}
		released.add(transfers, nil)
	}
	running.Wait()
	if released.done == 0 {
		return errors.Join(released.failed...)
	}
	for _, err := range released.failed {
		a.Logger.Info("another transport has not released a session; it does so when it finds the job ended",
			"session_id", in.Session, "error", err)
	}
	if in.Uncounted {
		return nil
	}

	return a.Store.RecordTransfers(ctx, in.Session, released.transfers)
}

// releases are the answers of several transports to a release.
type releases struct {
	mu        sync.Mutex
	done      int
	failed    []error
	transfers []store.Transfer
}

func (r *releases) add(transfers []store.Transfer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed = append(r.failed, err)
		return
	}
	r.done++
	r.transfers = append(r.transfers, transfers...)
}

// releaseAt ends a session at one transport, and returns the bytes that it has exchanged with partners there.
// A transport of an earlier version counts none.
func (a *Activities) releaseAt(ctx context.Context, transport, session, final string) (
	transfers []store.Transfer, counted bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, transport+"/v1/interconn/chan/release",
		strings.NewReader("{}"))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-ptp-session-id", session)
	req.Header.Set("x-ptp-target-node-id", a.Client.NodeID)
	req.Header.Set("x-ptp-final", final)
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return nil, false, fmt.Errorf("failed to release session %s at the transport: %w", session, err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxTransfers))
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("failed to release session %s at the transport: HTTP %d", session,
			resp.StatusCode)
	}
	if err != nil {
		return nil, false, fmt.Errorf("failed to release session %s at the transport: %w", session, err)
	}
	var released struct {
		Payload []byte `json:"content"`
	}
	if err := json.Unmarshal(answer, &released); err != nil || len(released.Payload) == 0 {
		return nil, false, nil
	}
	if err := json.Unmarshal(released.Payload, &transfers); err != nil {
		return nil, false, fmt.Errorf("failed to read the transfers of session %s: %w", session, err)
	}
	return transfers, true, nil
}
