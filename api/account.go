package api

import (
	"cmp"
	"context"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
)

// jobAccount returns what a job has used and exchanged at this party, also of a job that was removed.
func (s *Server) jobAccount(c *fiber.Ctx) error {
	jobID, err := s.jobParam(c)
	if err != nil {
		return err
	}
	account, err := s.accountOf(c.UserContext(), jobID)
	if err != nil {
		return err
	}
	return ok(c, account)
}

func (s *Server) accountOf(ctx context.Context, jobID string) (*bfia.JobAccount, error) {
	account := &bfia.JobAccount{NodeID: s.Node, JobID: jobID, Parts: []bfia.PartAccount{},
		Traffic: []bfia.TrafficAccount{}}
	job, notHere := s.store.Job(ctx, jobID)
	if notHere != nil && bfia.CodeOf(notHere) != bfia.CodeNotFound {
		return nil, notHere
	}
	account.FlowID, account.State = job.FlowID, job.State
	usages, err := s.store.Usages(ctx, jobID)
	if err != nil {
		return nil, err
	}
	for i := range usages {
		account.Parts = append(account.Parts, partAccount(&usages[i]))
	}
	transfers, complete, err := s.store.TaskTransfers(ctx, jobID)
	if err != nil {
		return nil, err
	}
	if notHere != nil && !complete && len(usages) == 0 {
		// This party schedules it without a part of its own, or does not know it.
		scheduled, err := s.store.ScheduleJob(ctx, jobID)
		if err != nil {
			return nil, unknownJob(err, jobID, s.Node)
		}
		account.FlowID, account.State = scheduled.FlowID, scheduled.State
		complete = scheduled.State.Terminal()
	}
	account.TrafficComplete = complete
	tasks, err := s.attemptsByID(ctx, jobID, usages)
	if err != nil {
		return nil, err
	}
	account.Traffic = trafficOf(transfers, tasks)
	account.Sum()
	return account, nil
}

func partAccount(u *store.Usage) bfia.PartAccount {
	p := bfia.PartAccount{Task: u.Name, Role: bfia.Part{Role: u.Role, Index: u.RoleIndex}.Self(),
		Attempt: u.Attempt, TaskID: u.TaskID, RunnerID: u.RunnerID, Device: u.Device,
		StartedAt: u.StartedAt, EndedAt: u.EndedAt, PeakMemory: u.PeakMemory,
		AtLeast: !u.Final && (u.CPUMillis != nil || u.PeakMemory != nil)}
	if u.StartedAt != nil && u.EndedAt != nil {
		p.ContainerSeconds = new(u.EndedAt.Sub(*u.StartedAt).Seconds())
	}
	if u.CPUMillis != nil {
		p.CPUSeconds = new(float64(*u.CPUMillis) / 1000)
	}
	return p
}

// attempt names an attempt of a task.
type attempt struct {
	task   string
	number int
}

// attemptsByID returns the attempts of a job's tasks that this party knows, by task id.
func (s *Server) attemptsByID(ctx context.Context, jobID string, usages []store.Usage,
) (map[string]attempt, error) {
	known := map[string]attempt{}
	earlier, err := s.store.EarlierAttemptsOfJob(ctx, jobID)
	if err != nil {
		return nil, err
	}
	for _, e := range earlier {
		known[e.TaskID] = attempt{e.Name, e.Attempt}
	}
	rows, err := s.store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		known[rows[i].TaskID] = attempt{rows[i].Name, max(rows[i].Attempt, 1)}
	}
	for i := range usages {
		known[usages[i].TaskID] = attempt{usages[i].Name, usages[i].Attempt}
	}
	delete(known, "")
	return known, nil
}

// trafficOf sums up transfers by attempt and partner. Those of a task id that this party does not know are
// those of an unknown task, whatever the partner calls it.
func trafficOf(transfers []store.Transfer, tasks map[string]attempt) []bfia.TrafficAccount {
	type key struct {
		attempt
		node string
	}
	place := map[key]int{}
	list := []bfia.TrafficAccount{}
	for i := range transfers {
		t := &transfers[i]
		k := key{tasks[t.TaskID], t.NodeID}
		at, found := place[k]
		if !found {
			at = len(list)
			place[k] = at
			list = append(list, bfia.TrafficAccount{Task: k.task, Attempt: k.number, NodeID: k.node})
		}
		sum := &list[at]
		sum.Sent += t.Sent
		sum.SentMessages += t.SentMessages
		sum.Received += t.Received
		sum.ReceivedMessages += t.ReceivedMessages
		sum.Unconfirmed += t.Unconfirmed
		sum.AtLeast = sum.AtLeast || t.Incomplete
	}
	slices.SortStableFunc(list, func(a, b bfia.TrafficAccount) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Attempt, b.Attempt),
			cmp.Compare(a.NodeID, b.NodeID))
	})
	return list
}
