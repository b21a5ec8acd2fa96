// Package conformance tests any implementation of the BFIA control layer (parts 2 and 3 of the specification,
// v1.2.0) at its base URL, through the protocol only.
//
// Each check covers one aspect of one endpoint. Known deviations of other implementations that Hutong accepts
// are reported separately from violations of the protocol.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

// Outcome is the outcome of a check.
type Outcome string

// The outcomes. Only Fail makes an implementation non-conforming.
const (
	Pass    Outcome = "ok"
	Deviate Outcome = "deviates" // an accepted deviation of known implementations
	Fail    Outcome = "FAIL"
	Skip    Outcome = "skipped" // its precondition was not met
)

// Target is the implementation to test.
type Target struct {
	// URL is the base URL, such as http://host:9380.
	URL string
	// Node is the tested party's node id.
	Node string
	// Job is a job's document whose tasks succeed at the tested party in all roles. Without one, the checks
	// that need a job are skipped. The checks set the roles, the initiator and the ids.
	Job []byte
	// HTTP sends the requests; nil is a client with a timeout of 30 s.
	HTTP *http.Client
	// Timeout bounds the time of all tasks of the job together; 0 is 5 minutes.
	Timeout time.Duration
}

// Check is one aspect of one endpoint.
type Check struct {
	Endpoint string // method and path
	Aspect   string
	Section  string // of the specification: 2/3.7 is part 2, 3.7
	run      func(ctx context.Context, s *session) (seen string, err error)
}

// Result is a check with its outcome.
type Result struct {
	Check
	Outcome  Outcome
	Observed string
}

// deviation is the error of a check whose outcome is Deviate.
type deviation struct{ message string }

func (d *deviation) Error() string { return d.message }

func deviates(format string, args ...any) error { return &deviation{fmt.Sprintf(format, args...)} }

// skipError is the error of a check whose precondition was not met.
type skipError struct{ message string }

func (s *skipError) Error() string { return s.message }

// Checks returns all checks in the order in which they run. Later checks use the jobs of earlier ones.
func Checks() []Check {
	var all []Check
	for _, list := range [][]Check{general(), participant(), logs(), scheduler(), platform()} {
		all = append(all, list...)
	}
	return all
}

// Run runs all checks. It calls onResult, unless it is nil, after each of them. It ends early only with ctx.
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

// Conforms reports whether no check failed.
func Conforms(results []Result) bool {
	for _, r := range results {
		if r.Outcome == Fail {
			return false
		}
	}
	return true
}

// newSession checks the target and sets its defaults.
func newSession(t Target) (*session, error) {
	if t.Node == "" {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "node: the tested party's node id is required")
	}
	if t.HTTP == nil {
		t.HTTP = &http.Client{Transport: httpclient.Direct(), Timeout: 30 * time.Second}
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
