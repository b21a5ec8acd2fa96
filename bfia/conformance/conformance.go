// Package conformance tests any implementation of the BFIA control layer (parts 2 and 3 of the API specification, v1.2.0)
// at its base URL, over nothing but the protocol. Each check is one aspect of one endpoint; what peers are known to do
// otherwise, and is accepted, is told apart from what breaks the protocol.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hutong/bfia"
)

// Outcome is what became of a check.
type Outcome string

// The outcomes. Only Fail makes an implementation one that does not conform.
const (
	Pass    Outcome = "ok"
	Deviate Outcome = "deviates" // not as the specification has it, but as known peers do it, and Hutong accepts it
	Fail    Outcome = "FAIL"
	Skip    Outcome = "skipped" // it could not be tried
)

// Target is what is tested.
type Target struct {
	// URL is the base, such as http://host:9380.
	URL string
	// Node is the tested party's node id.
	Node string
	// Job is a job's document whose roles are all played by the tested party: its tasks must end well there. Without one,
	// what needs a job is skipped. Roles, initiator and ids are set by the checks.
	Job []byte
	// HTTP sends; nil is a client with a time-out of 30 s.
	HTTP *http.Client
	// Timeout is how long the job's tasks may take together; 0 is 5 minutes.
	Timeout time.Duration
}

// Check is one aspect of one endpoint.
type Check struct {
	Endpoint string // method and path
	Aspect   string
	Section  string // of the specification: 2/3.7 is part 2, 3.7
	run      func(ctx context.Context, s *session) (seen string, err error)
}

// Result is a check and what became of it.
type Result struct {
	Check
	Outcome  Outcome
	Observed string
}

// deviation is an error that is accepted.
type deviation struct{ message string }

func (d *deviation) Error() string { return d.message }

func deviates(format string, args ...any) error { return &deviation{fmt.Sprintf(format, args...)} }

// skipped is why a check could not be tried.
type skipError struct{ message string }

func (s *skipError) Error() string { return s.message }

// Checks are all checks in the order in which they run: later ones build on what earlier ones began.
func Checks() []Check {
	var all []Check
	for _, list := range [][]Check{general(), participant(), logs(), scheduler(), platform()} {
		all = append(all, list...)
	}
	return all
}

// Run runs all checks, and tells each result when it is there; tell may be nil. It ends early only with ctx.
func Run(ctx context.Context, target Target, onResult func(Result)) ([]Result, error) {
	s, err := newSession(target)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, c := range Checks() {
		seen, err := c.run(ctx, s)
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		r := Result{Check: c, Outcome: Pass, Observed: seen}
		var d *deviation
		var sk *skipError
		switch {
		case errors.As(err, &sk):
			r.Outcome, r.Observed = Skip, sk.message
		case errors.As(err, &d):
			r.Outcome, r.Observed = Deviate, d.message
		case err != nil:
			r.Outcome, r.Observed = Fail, err.Error()
		}
		results = append(results, r)
		if onResult != nil {
			onResult(r)
		}
	}
	return results, nil
}

// Conforms tells whether no check failed.
func Conforms(results []Result) bool {
	for _, r := range results {
		if r.Outcome == Fail {
			return false
		}
	}
	return true
}

// newSession makes the target ready.
func newSession(t Target) (*session, error) {
	if t.Node == "" {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "node: the tested party's node id is required")
	}
	if t.HTTP == nil {
		t.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	if t.Timeout == 0 {
		t.Timeout = 5 * time.Minute
	}
	s := &session{Target: t}
	if len(t.Job) > 0 {
		if _, err := bfia.ParseDocument(t.Job); err != nil {
			return nil, fmt.Errorf("the job: %w", err)
		}
	}
	return s, nil
}
