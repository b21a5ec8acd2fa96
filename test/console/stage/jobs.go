package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/store"
	"hutong/test/testenv/apiclient"
)

// openPair is the pair without sign-in. Its jobs are named by what the tests do with them.
type openPair struct {
	Guest     string `json:"guest"` // URL
	Host      string `json:"host"`
	GuestNode string `json:"guest_node"`
	HostNode  string `json:"host_node"`
	Stored    int    `json:"stored"` // ended jobs besides those below
	Jobs      struct {
		Running   string `json:"running"` // its tasks follow running.guest and running.host
		Queued    string `json:"queued"`
		Failed    string `json:"failed"`  // at the host
		Pending   string `json:"pending"` // until the end
		Approve   string `json:"approve"` // PENDING, for a test to approve
		Like      string `json:"like"`    // the same, together with the like
		Reject    string `json:"reject"`
		Stop      string `json:"stop"` // runs, for a test to stop
		Live      string `json:"live"` // two tasks, which follow live1 and live2 at both parties
		Trained   string `json:"trained"`
		Again     string `json:"again"`     // trained a second time
		Large     string `json:"large"`     // of many tasks
		Evaluated string `json:"evaluated"` // with a report in FATE's form
		Retried   string `json:"retried"`   // ended after three attempts
	} `json:"jobs"`
	Tasks  int    `json:"tasks"`  // of the large job
	Reason string `json:"reason"` // part of what the failed job logs at the host
}

// strictPair is the pair with TLS and tokens.
type strictPair struct {
	Guest string `json:"guest"`
	Host  string `json:"host"`
	// OIDC is the OpenID provider of the guest.
	OIDC   oidcLogin `json:"oidc"`
	Tokens struct {
		Admin    string `json:"admin"`    // of the guest
		Viewer   string `json:"viewer"`   // of the guest
		Operator string `json:"operator"` // of the guest
		Approver string `json:"approver"` // of the host
		// Those without the role viewer:
		OperatorOnly string `json:"operator_only"` // of the guest
		ApproverOnly string `json:"approver_only"` // of the host
	} `json:"tokens"`
	Jobs struct {
		Running string `json:"running"`
		Pending string `json:"pending"`
		Approve string `json:"approve"`
		Failed  string `json:"failed"`
	} `json:"jobs"`
	Departments departments `json:"departments"`
}

// jobLimit is how long a job may take to reach a state, on a slow machine.
const jobLimit = 3 * time.Minute

// wrongColumn is the id column of the dataset with which the failed job fails at the host.
const wrongColumn = "customer_no"

func (b *builder) build(ctx context.Context) (*stage, error) {
	s := &stage{Files: filepath.Join(b.dir, "files")}
	if err := os.MkdirAll(s.Files, 0o700); err != nil {
		return nil, err
	}
	open, err := b.pair(ctx, "open", party.SecurityOpen)
	if err != nil {
		return nil, err
	}
	strict, err := b.pair(ctx, "strict", party.SecurityStrict)
	if err != nil {
		return nil, err
	}
	for _, pair := range []partyPair{open, strict} {
		if err := b.prepare(ctx, pair, s.Files); err != nil {
			return nil, err
		}
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		s.Open.Stored = b.stored
		return open.guest.withStore(ctx, func(db *store.Store) error {
			return fillStore(ctx, db, time.Now().Add(-time.Hour), b.stored)
		})
	})
	work.Go(func() error { return b.openJobs(ctx, open, &s.Open) })
	work.Go(func() error { return b.strictJobs(ctx, strict, &s.Strict) })
	return s, work.Wait()
}

// prepare registers the providers at both parties, and uploads their datasets.
func (b *builder) prepare(ctx context.Context, pair partyPair, files string) error {
	reference, err := referenceProvider(b.bin)
	if err != nil {
		return err
	}
	followed, err := followProvider(files)
	if err != nil {
		return err
	}
	for _, p := range []*stageParty{pair.guest, pair.host} {
		for _, registration := range []any{reference, followed} {
			if err := p.call(ctx, http.MethodPost, bfia.PathProviderRegister, registration, nil); err != nil {
				return err
			}
		}
	}
	guest, err := os.ReadFile("testdata/breast/guest.csv")
	if err != nil {
		return err
	}
	host, err := os.ReadFile("testdata/breast/host.csv")
	if err != nil {
		return err
	}
	wrong := []byte(strings.Replace(string(host), "id,", wrongColumn+",", 1))
	for _, u := range []struct {
		party          *stageParty
		name, id, meta string
		rows           []byte
	}{
		{pair.guest, "breast_guest", "id", `,"label_name":"y"`, guest},
		{pair.host, "breast_host", "id", "", host},
		{pair.host, "customers", wrongColumn, "", wrong},
	} {
		fields := map[string]string{"namespace": "demo", "name": u.name, "head": "true", "partitions": "4",
			"meta": `{"delimiter":",","match_id_name":"` + u.id + `"` + u.meta + `}`}
		if err := u.party.client.Upload(ctx, u.party.url, u.name+".csv", u.rows, fields); err != nil {
			return fmt.Errorf("failed to upload %s: %w", u.name, err)
		}
	}
	return nil
}

// openJobs submits the jobs of the open pair, and waits until each has the state that the tests expect.
func (b *builder) openJobs(ctx context.Context, pair partyPair, open *openPair) error {
	open.Guest, open.Host, open.GuestNode, open.HostNode = pair.guest.url, pair.host.url, guestNode, hostNode
	open.Tasks, open.Reason = b.tasks, "it has "+wrongColumn
	trained, err := referenceJob("credit-model", "demo#breast_host")
	if err != nil {
		return err
	}
	failed, err := referenceJob("monthly-risk-model", "demo#customers")
	if err != nil {
		return err
	}
	one := func(flow, file string) object {
		return followJob(flow,
			followTask{name: "prepare", guest: file + ".guest", host: file + ".host"},
			followTask{name: "train", after: []string{"prepare"}})
	}
	live := followJob("live", followTask{name: "first", guest: "live1", host: "live1"},
		followTask{name: "second", after: []string{"first"}, guest: "live2", host: "live2"})
	// At each attempt, once the other party has surely started its part.
	text := "level=error msg=\"the licence server does not answer\"\ntake 2s\nexit 75\n"
	if err := os.WriteFile(filepath.Join(b.dir, "files", "retried"), []byte(text), 0o600); err != nil {
		return err
	}
	jobs := &open.Jobs
	work, workCtx := errgroup.WithContext(ctx)
	for _, j := range []submission{
		{&jobs.Trained, trained, hasOutcome(bfia.OutcomeSuccess)},
		{&jobs.Again, trained, hasOutcome(bfia.OutcomeSuccess)},
	} {
		work.Go(func() error { return pair.run(workCtx, j) })
	}
	for _, j := range []submission{
		{&jobs.Failed, failed, hasOutcome(bfia.OutcomeFailed)},
		{&jobs.Running, one(limitedFlow, "running"), runs},
		{&jobs.Stop, one(limitedFlow, "stop"), runs},
		{&jobs.Live, live, runs},
		{&jobs.Large, largeJob(b.tasks, "large"), runs},
		{&jobs.Evaluated, evaluationJob("evaluation"), hasOutcome(bfia.OutcomeSuccess)},
		{&jobs.Retried, followJob("retried", followTask{name: "prepare", host: "retried"}),
			hasOutcome(bfia.OutcomeFailed)},
		{&jobs.Queued, one(limitedFlow, "queued"), queued},
		{&jobs.Pending, trained, nil},
		{&jobs.Approve, one("to-approve", "approve"), nil},
		{&jobs.Like, one("to-approve-like", "like"), nil},
		{&jobs.Reject, one("to-reject", "reject"), nil},
	} {
		if err := pair.run(ctx, j); err != nil {
			return errors.Join(err, work.Wait())
		}
	}
	return work.Wait()
}

// strictJobs makes the tokens and the jobs of the strict pair.
func (b *builder) strictJobs(ctx context.Context, pair partyPair, strict *strictPair) error {
	strict.Guest, strict.Host, strict.OIDC = pair.guest.url, pair.host.url, b.oidc
	var err error
	tokens := &strict.Tokens
	for _, t := range []struct {
		token *string
		party *stageParty
		name  string
		roles []identity.Role
	}{
		{&tokens.Admin, pair.guest, "ada", []identity.Role{identity.Admin}},
		{&tokens.Viewer, pair.guest, "vera", []identity.Role{identity.Viewer}},
		{&tokens.Operator, pair.guest, "oscar", []identity.Role{identity.Viewer, identity.Operator}},
		{&tokens.Approver, pair.host, "anna", []identity.Role{identity.Viewer, identity.Approver}},
		{&tokens.OperatorOnly, pair.guest, "olga", []identity.Role{identity.Operator}},
		{&tokens.ApproverOnly, pair.host, "adam", []identity.Role{identity.Approver}},
	} {
		if *t.token, err = t.party.token(ctx, t.name, t.roles...); err != nil {
			return err
		}
	}
	failing := followJob("strict-failure", followTask{name: "prepare", host: "strict-failure"})
	one := func(flow, file string) object {
		return followJob(flow, followTask{name: "prepare", guest: file, host: file})
	}
	jobs := &strict.Jobs
	for _, j := range []submission{
		{&jobs.Running, one("strict-running", "strict-running"), runs},
		{&jobs.Pending, one("strict-pending", "strict-pending"), nil},
		{&jobs.Approve, one("strict-approve", "strict-approve"), nil},
	} {
		if err := pair.run(ctx, j); err != nil {
			return err
		}
	}
	file := filepath.Join(b.dir, "files", "strict-failure")
	text := "level=error msg=\"the table scores has no column age\"\nexit 3\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if err := pair.run(ctx, submission{&jobs.Failed, failing, hasOutcome(bfia.OutcomeFailed)}); err != nil {
		return err
	}
	return b.makeDepartments(ctx, pair, &strict.Departments)
}

// submission is a job to submit.
type submission struct {
	id       *string // set to the job's id
	document any
	reaches  func(bfia.JobStatus) bool
}

// run submits a job at the guest, has the host approve it, and waits until the guest shows what is expected.
// With reaches nil it leaves the approval open.
func (pair partyPair) run(ctx context.Context, j submission) error {
	var created bfia.JobCreated
	// A busy machine may not create a job in time; then nothing is left of it.
	err := poll(ctx, jobLimit, "the creation of a job", func() (bool, error) {
		err := pair.guest.call(ctx, http.MethodPost, bfia.PathPlatformCreateAll, j.document, &created)
		var answer *apiclient.Error
		if errors.As(err, &answer) && slices.Contains([]bfia.Code{bfia.CodePartnerDown, bfia.CodeUnavailable,
			bfia.CodeTooMany}, answer.Code) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("failed to submit a job: %w", err)
	}
	*j.id = created.JobID
	if j.reaches == nil {
		return nil
	}
	approval := bfia.Audit{JobID: created.JobID, Status: bfia.JobReady}
	if err := pair.host.call(ctx, http.MethodPost, bfia.PathPlatformAudit, approval, nil); err != nil {
		return fmt.Errorf("failed to approve a job: %w", err)
	}
	var status bfia.JobStatus
	err = poll(ctx, jobLimit, "job "+created.JobID, func() (bool, error) {
		path := bfia.PathPlatformStatusAll + "?job_id=" + url.QueryEscape(created.JobID)
		err := pair.guest.call(ctx, http.MethodGet, path, nil, &status)
		if err == nil && status.State == bfia.JobFinished && !j.reaches(status) {
			err = errors.New("the job ended otherwise")
		}
		return err == nil && j.reaches(status), err
	})
	if err != nil {
		return fmt.Errorf("%w; it is %s %s: %s", err, status.State, status.Outcome, status.Reason)
	}
	return nil
}

func hasOutcome(outcome bfia.Outcome) func(bfia.JobStatus) bool {
	return func(s bfia.JobStatus) bool { return s.State == bfia.JobFinished && s.Outcome == outcome }
}

func runs(s bfia.JobStatus) bool {
	return len(s.Tasks) > 0 && s.Tasks[0].State == bfia.TaskRunning
}

func queued(s bfia.JobStatus) bool {
	return s.State == bfia.JobReady && s.Queued != nil && s.Queued.Reason != ""
}
