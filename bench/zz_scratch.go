package main

import (
	"context"
	"fmt"
	"os"

	"go.temporal.io/api/enums/v1"

	"hutong/workflows"
)

func (d *deployment) dump(ctx context.Context, jobID string) {
	if os.Getenv("BENCH_DUMP") == "" {
		return
	}
	for _, x := range [][2]string{{d.guest, workflows.JobID(jobID)}, {d.guest, workflows.PartyJobID(jobID)}} {
		c, err := d.dial(x[0])
		if err != nil {
			panic(err)
		}
		fmt.Println("====", x[1])
		for it := c.GetWorkflowHistory(ctx, x[1], "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			e, err := it.Next()
			if err != nil {
				panic(err)
			}
			what := ""
			if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
				what = a.ActivityId
			}
			if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
				what = a.SignalName
			}
			if a := e.GetMarkerRecordedEventAttributes(); a != nil {
				what = a.MarkerName
				for _, p := range a.Details["data"].GetPayloads() {
					what += " " + string(p.Data)
				}
			}
			if a := e.GetActivityTaskCompletedEventAttributes(); a != nil {
				what = fmt.Sprint(a.ScheduledEventId)
			}
			if len(what) > 200 {
				what = what[:200]
			}
			fmt.Println(e.EventTime.AsTime().Format("05.000"), e.EventId, e.EventType, what, e.Size())
		}
		c.Close()
	}
}
