package api

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store/blob"
)

// failedWithin is for how long an overview shows failed jobs.
const failedWithin = 24 * time.Hour

// overview returns the state of the party at a glance, and to an approver who is no viewer the jobs that wait
// for approval.
func (s *Server) overview(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	ctx := c.UserContext()
	view := bfia.Overview{NodeID: s.Node, Approvals: []bfia.OverviewJob{}, Failed: []bfia.OverviewJob{},
		SilentRunners: []string{}, SilentPartners: []bfia.SilentPartner{}, Jobs: map[bfia.JobState]int{},
		Partners: []bfia.PartnerContact{}}
	var err error
	if view.Time, err = s.store.Now(ctx); err != nil {
		return err
	}
	// An approver without the role viewer gets the jobs on which it decides, and nothing else.
	if err := s.addApprovals(ctx, &view); err != nil {
		return err
	}
	caller := identity.From(ctx)
	if !caller.CanSomewhere(identity.Viewer) {
		return ok(c, view)
	}
	ctx = memberWith(identity.Viewer).scope(ctx, caller)
	view.Storage = s.storageSpace()
	if view.Jobs, err = s.store.JobCounts(ctx); err != nil {
		return err
	}
	if view.Queued, err = s.store.QueueLength(ctx); err != nil {
		return err
	}
	for _, add := range []func(context.Context, *bfia.Overview) error{s.addFailed, s.addRunners,
		s.addSilentPartners, s.addContacts} {
		if err := add(ctx, &view); err != nil {
			return err
		}
	}
	return ok(c, view)
}

// addApprovals adds the jobs that wait for the approval of this party.
func (s *Server) addApprovals(ctx context.Context, view *bfia.Overview) error {
	jobs, err := s.store.WaitingJobs(ctx, bfia.WaitsForApproval)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		i := slices.IndexFunc(j.Waiting, func(w bfia.Waiting) bool {
			return w.Kind == bfia.WaitsForApproval && w.NodeID == s.Node
		})
		if i < 0 {
			continue // for that of another party
		}
		if view.ApprovalCount++; view.ApprovalCount <= bfia.OverviewJobs {
			w := j.Waiting[i]
			view.Approvals = append(view.Approvals, bfia.OverviewJob{JobID: j.JobID,
				Project: viewProject(j.Project), FlowID: j.FlowID, Initiator: j.InitiatorNode,
				Since: w.Since, Until: w.Until, Reason: w.Text()})
		}
	}
	return nil
}

// addFailed adds the jobs that failed of late, with where and why.
func (s *Server) addFailed(ctx context.Context, view *bfia.Overview) error {
	jobs, all, err := s.store.FailedJobs(ctx, view.Time.Add(-failedWithin), bfia.OverviewJobs)
	if err != nil {
		return err
	}
	view.FailedCount = all
	for _, j := range jobs {
		row := bfia.OverviewJob{JobID: j.JobID, Project: viewProject(j.Project), FlowID: j.FlowID,
			Initiator: j.InitiatorNode,
			Reason:    j.Reason, Since: *j.EndedAt, Failure: j.Failure.WithHint(s.Node, j.JobID)}
		if j.Failure != nil {
			row.NodeID, row.Task, row.Reason = j.Failure.NodeID, j.Failure.Task, j.Failure.Text()
		}
		view.Failed = append(view.Failed, row)
	}
	return nil
}

// addRunners adds the capacity of the runners, and the silent ones.
func (s *Server) addRunners(ctx context.Context, view *bfia.Overview) error {
	uses, err := s.store.RunnerUses(ctx)
	if err != nil {
		return err
	}
	sum := func(to *bfia.RunnerCapacity, c bfia.RunnerCapacity) {
		to.Slots += c.Slots
		to.CPUMilli += c.CPUMilli
		to.Memory += c.Memory
		to.Disk += c.Disk
		to.GPU += c.GPU
	}
	for _, u := range uses {
		switch r := runnerOf(u, view.Time); r.State {
		case bfia.RunnerSilent:
			view.SilentRunners = append(view.SilentRunners, r.RunnerID)
		case bfia.RunnerDeregistered:
		default:
			view.Capacity.Runners++
			view.Capacity.Running += r.Running
			sum(&view.Capacity.Total, r.Total)
			sum(&view.Capacity.Used, r.Used)
		}
	}
	return nil
}

// addSilentPartners adds the partners for whose answers jobs wait.
func (s *Server) addSilentPartners(ctx context.Context, view *bfia.Overview) error {
	jobs, err := s.store.WaitingJobs(ctx, bfia.WaitsForPartner)
	if err != nil {
		return err
	}
	silent := map[string]*bfia.SilentPartner{}
	for _, j := range jobs {
		counted := map[string]bool{}
		for _, w := range j.Waiting {
			if w.Kind != bfia.WaitsForPartner || w.NodeID == "" || w.NodeID == s.Node {
				continue
			}
			p := silent[w.NodeID]
			if p == nil {
				p = &bfia.SilentPartner{NodeID: w.NodeID, Since: w.Since, Reason: w.Text()}
				silent[w.NodeID] = p
			}
			if w.Since.Before(p.Since) {
				p.Since, p.Reason = w.Since, w.Text()
			}
			if !counted[w.NodeID] {
				counted[w.NodeID] = true
				p.Jobs++
			}
		}
	}
	for _, p := range silent {
		view.SilentPartners = append(view.SilentPartners, *p)
	}
	slices.SortFunc(view.SilentPartners, func(a, b bfia.SilentPartner) int {
		return strings.Compare(a.NodeID, b.NodeID)
	})
	return nil
}

// addContacts adds the partners with their last requests.
func (s *Server) addContacts(ctx context.Context, view *bfia.Overview) error {
	names := map[string]string{}
	if s.contracts != nil {
		for _, p := range s.contracts.Configured() {
			names[p.NodeID] = p.Name
		}
	}
	contracts, err := s.store.Partners(ctx)
	if err != nil {
		return err
	}
	for _, p := range contracts {
		if p.Active() {
			names[p.NodeID] = p.Name
		}
	}
	contacts, err := s.store.Contacts(ctx)
	if err != nil {
		return err
	}
	view.Partners = []bfia.PartnerContact{}
	for node, name := range names {
		p := bfia.PartnerContact{NodeID: node, Name: name}
		if at, known := contacts[node]; known {
			p.ContactAt = &at
		}
		view.Partners = append(view.Partners, p)
	}
	slices.SortFunc(view.Partners, func(a, b bfia.PartnerContact) int {
		return strings.Compare(a.NodeID, b.NodeID)
	})
	return nil
}

// lowSpace is the free space of a disk below which it is nearly full, as for the doctor.
const lowSpace = 1 << 30

// storageSpace returns the space of the storage's disk, or nil if it is not known.
func (s *Server) storageSpace() *bfia.StorageSpace {
	free, total, known := blob.Space(s.blobs)
	if !known {
		return nil
	}
	return &bfia.StorageSpace{FreeBytes: free, TotalBytes: total,
		NearlyFull: free < lowSpace || free < total/20}
}

// contacts remembers when this process has recorded the last request of each partner.
type contacts struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	// contactEvery is how often the requests of one partner are recorded.
	contactEvery = 10 * time.Second
	// maxContacts bounds the partners in memory. Only in development may callers have any name.
	maxContacts = 10_000
)

// due reports whether a request must be recorded.
func (c *contacts) due(node string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.last[node]
	if known && now.Sub(last) < contactEvery || !known && len(c.last) >= maxContacts {
		return false
	}
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.last[node] = now
	return true
}

// recordContact records that a partner has made a request.
func (s *Server) recordContact(p identity.Principal) {
	now := time.Now()
	if p.Kind != identity.KindPartner || p.Node == s.Node || bfia.CheckID("node_id", p.Node) != nil ||
		!s.contacts.due(p.Node, now) {
		return
	}
	if err := s.store.PutContact(s.ctx, p.Node, now); err != nil {
		s.logger.Warn("failed to record when a partner was last in contact", "partner", p.Node, "error", err)
	}
}
