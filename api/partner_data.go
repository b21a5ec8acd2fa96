package api

import (
	"context"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
)

const (
	// partnerDataJobs bounds the jobs in which datasets of partners are looked up: each costs the read of its
	// record.
	partnerDataJobs = 50

	// partnerDataPages bounds the pages of the list of jobs in which jobs with one partner are looked for.
	partnerDataPages = 10
)

// queryPartnerData lists the datasets that partners, or one, gave to the newest jobs of this party, each
// once. It asks no partner: it is for those who type such a name again.
func (s *Server) queryPartnerData(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	node := get("node_id")
	jobs, err := s.recentJobsWith(c.UserContext(), node)
	if err != nil {
		return err
	}
	list := []bfia.PartnerData{}
	for _, j := range jobs {
		if j.State == bfia.JobRejected {
			continue
		}
		record, err := s.store.JobRecord(c.UserContext(), j.JobID)
		if bfia.CodeOf(err) == bfia.CodeNotFound { // the job was removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		used, err := bfia.PartnerDataOf(record.Document, record.Registry.Describe, s.Node)
		if err != nil { // one job must not hide the others
			s.logger.Warn("failed to read the datasets of partners in a job", "job_id", j.JobID, "error", err)
			continue
		}
		for _, data := range used {
			if node != "" && data.NodeID != node || slices.ContainsFunc(list, data.Same) {
				continue
			}
			data.CreatedAt, data.Outcome = j.CreatedAt, j.Outcome
			list = append(list, data)
		}
	}
	return ok(c, list)
}

// recentJobsWith returns the newest jobs that have a partner, or any if node is "".
func (s *Server) recentJobsWith(ctx context.Context, node string) ([]store.Job, error) {
	var jobs []store.Job
	filter := store.JobFilter{Partner: node}
	for range partnerDataPages {
		filter.Limit = partnerDataJobs - len(jobs)
		page, err := s.store.Jobs(ctx, filter)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, page.Jobs...)
		if page.Next == nil || len(jobs) == partnerDataJobs {
			break
		}
		filter.Before = page.Next
	}
	return jobs, nil
}
