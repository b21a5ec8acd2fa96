package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"

	"hutong/activities"
)

// identity returns a name for a runner's worker in Temporal. No two processes have the same, not even on
// machines of the same name.
func identity(node string) string {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown-machine"
	}

	return fmt.Sprintf("%s@%s/%d-%s", node, name, os.Getpid(), rand.Text()[:8])
}

// duplicateRunners returns the other workers that have polled a runner's queue after since. The previous
// worker of the runner, which polled before, is none of them.
func duplicateRunners(pollers []*taskqueue.PollerInfo, self string, since time.Time) []string {
	var found []string
	for _, p := range pollers {
		late := p.GetLastAccessTime().AsTime().After(since)
		if p.GetIdentity() != self && late && !slices.Contains(found, p.GetIdentity()) {
			found = append(found, p.GetIdentity())
		}
	}
	slices.Sort(found)

	return found
}

// findDuplicateRunners asks Temporal for the other workers that poll a runner's queue.
func findDuplicateRunners(ctx context.Context, c client.Client, runnerID, self string, since time.Time,
) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, temporalTimeout)
	defer cancel()
	name := activities.TaskQueueOfRunner(runnerID)
	queue, err := c.DescribeTaskQueue(ctx, name, enums.TASK_QUEUE_TYPE_ACTIVITY)
	if err != nil {
		return nil, fmt.Errorf("failed to list the workers of runner %s: %w", runnerID, err)
	}

	return duplicateRunners(queue.GetPollers(), self, since), nil
}

// logDuplicateRunners logs an error if another worker takes tasks of this runner. Each of the two machines
// would run tasks of the other, and neither could stop the other's containers.
func logDuplicateRunners(
	ctx context.Context, c client.Client, runnerID, self string, since time.Time, logger *slog.Logger,
) {
	found, err := findDuplicateRunners(ctx, c, runnerID, self, since)
	if err != nil {
		if ctx.Err() == nil {
			logger.Warn("failed to look for duplicate runners; the next sweep tries again",
				"runner_id", runnerID, "error", err)
		}

		return
	}
	if len(found) > 0 {
		logger.Error("another worker takes tasks of this runner: stop one of the two; "+
			"if one machine is a clone of the other, give it a runner id of its own",
			"runner_id", runnerID, "worker", self, "others", found)
	}
}
