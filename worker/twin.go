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

// identity names a host's worker to the engine: no two processes have the same, also on machines of one name.
func identity(node string) string {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown-host"
	}
	return fmt.Sprintf("%s@%s/%d-%s", node, name, os.Getpid(), rand.Text()[:8])
}

// twins are who polls a host's queue beside its worker since then. A worker that took the place of another finds none: the
// other polled before.
func duplicateRunners(pollers []*taskqueue.PollerInfo, self string, since time.Time) []string {
	var found []string
	for _, p := range pollers {
		if p.GetIdentity() != self && p.GetLastAccessTime().AsTime().After(since) && !slices.Contains(found, p.GetIdentity()) {
			found = append(found, p.GetIdentity())
		}
	}
	slices.Sort(found)
	return found
}

// findDuplicateRunners asks the engine who else polls a host's queue.
func findDuplicateRunners(ctx context.Context, c client.Client, hostID, self string, since time.Time) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	queue, err := c.DescribeTaskQueue(ctx, activities.TaskQueueOfRunner(hostID), enums.TASK_QUEUE_TYPE_ACTIVITY)
	if err != nil {
		return nil, fmt.Errorf("asking who takes the runs of host %s: %w", hostID, err)
	}
	return duplicateRunners(queue.GetPollers(), self, since), nil
}

// logDuplicateRunners says it loudly when another worker takes the runs of this host: the runs of two machines would be mixed up, and
// neither would stop the other's.
func logDuplicateRunners(ctx context.Context, c client.Client, hostID, self string, since time.Time, logger *slog.Logger) {
	found, err := findDuplicateRunners(ctx, c, hostID, self, since)
	if err != nil {
		if ctx.Err() == nil {
			logger.Warn("whether another worker takes the runs of this host can't be told; it is asked again", "host_id", hostID, "error", err)
		}
		return
	}
	if len(found) > 0 {
		logger.Error("another worker takes the runs of this host: stop one of the two; if they are on two machines that were cloned, "+
			"give one of these an id of its own (docs/hosts.md)", "host_id", hostID, "worker", self, "others", found)
	}
}
