package main

import (
	"context"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"hutong/workflows"
)

// namespaceOf returns a party's default Temporal namespace.
func namespaceOf(node string) string { return "hutong-" + strings.ToLower(node) }

// historyCost sums up the histories of a job's workflows.
type historyCost struct {
	workflows, activities, workflowTasks int
	events                               int   // of all
	longest                              int   // events of the longest history
	bytes                                int64 // of the largest history
}

// historyOf reads the histories of a job's workflows at the parties that are Hutong.
func (d *deployment) historyOf(ctx context.Context, jobID string) (h historyCost, err error) {
	scheduler, participant := workflows.SchedulerJobID(jobID), workflows.ParticipantJobID(jobID)
	for node, ids := range map[string][]string{d.guest: {scheduler, participant}, d.host: {participant}} {
		if node == "" {
			continue
		}
		c, err := d.dial(node)
		if err != nil {
			return h, err
		}
		for _, id := range ids {
			if err := h.add(ctx, c, id); err != nil {
				c.Close()
				return h, err
			}
		}
		c.Close()
	}
	return h, nil
}

func (h *historyCost) add(ctx context.Context, c client.Client, id string) error {
	h.workflows++
	described, err := c.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return err
	}
	info := described.WorkflowExecutionInfo
	h.longest, h.bytes = max(h.longest, int(info.HistoryLength)), max(h.bytes, info.HistorySizeBytes)
	events := c.GetWorkflowHistory(ctx, id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return err
		}
		h.events++
		switch event.EventType {
		case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			h.activities++
		case enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			h.workflowTasks++
		}
	}
	return nil
}
