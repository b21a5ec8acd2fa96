package interop

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// direction is who initiates and schedules, as the guest; the other is the host.
type direction struct {
	name        string
	guest, host string
}

var (
	hutongLeads = direction{"Hutong schedules", hutongNode, fateNode}
	fateLeads   = direction{"FATE-Flow schedules", fateNode, hutongNode}
	directions  = []direction{hutongLeads, fateLeads}
)

func (d direction) job(s sleep) sleep {
	s.guest, s.host = d.guest, d.host
	return s
}

// at is the endpoint of a role's party.
func (d direction) at(w *world, role string) endpoint {
	if node := map[string]string{"guest": d.guest, "host": d.host}[role]; node == fateNode {
		return w.fate.endpoint
	}
	return w.hutong.endpoint
}

func (d direction) submit(t *testing.T, w *world, s sleep) string {
	t.Helper()
	return d.at(w, "guest").submit(t, d.job(s).document(t))
}

// await waits until the job has ended at its scheduler.
func (d direction) await(t *testing.T, w *world, id string) {
	t.Helper()
	if d == fateLeads {
		w.awaitFate(t, id, bfia.JobFinished)
	} else {
		w.awaitHutong(t, id, finished)
	}
}

// requireBroken checks that a job whose first task did not end well is over at both parties, as both tell it: that task
// failed at both, the next one never began, and no container is left.
func (w *world) requireBroken(t *testing.T, d direction, id string) {
	t.Helper()
	d.await(t, w, id)
	w.requireNoContainers(t, id)
	w.requireEnded(t, id)
	failed := map[string]bfia.TaskState{"s1": bfia.TaskFailed}
	require.Eventually(t, func() bool { return w.fate.tasks(t, id)["s1"] == bfia.TaskFailed }, limit, tick)
	require.Equal(t, failed, w.fate.tasks(t, id), "at FATE-Flow")
	require.Equal(t, failed, w.hutongTasks(t, id), "at Hutong")
	if d == fateLeads {
		require.Equal(t, map[string]bfia.TaskState{"s1": bfia.TaskFailed, "s2": bfia.TaskReady}, w.fate.scheduledTasks(t, id))
	} else {
		for _, task := range w.hutong.status(t, id).Tasks {
			require.Equal(t, map[string]bfia.TaskState{"s1": bfia.TaskFailed, "s2": bfia.TaskReady}[task.Name], task.State, task.Name)
		}
	}
}

// TestFailureAndStop: a task that fails at one side, then at the other; an image that one of them lacks; a stop from
// either side while containers run.
func TestFailureAndStop(t *testing.T) {
	w := theWorld(t)
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			for _, role := range []string{"guest", "host"} {
				t.Run("a task fails at the "+role, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, w, sleep{tasks: 2, seconds: map[string]int{"s1": 4}, exit: map[string]int{role: 3}})
					w.requireBroken(t, d, id)
					if d == hutongLeads {
						node := map[string]string{"guest": d.guest, "host": d.host}[role]
						require.Contains(t, w.hutong.status(t, id).Reason, "task s1 failed at "+node+" ("+role+".0)")
					}
				})
				t.Run("a stop from the "+role, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, w, sleep{tasks: 2, seconds: map[string]int{"s1": 300}})
					w.awaitContainers(t, id)
					d.at(w, role).good(t, http.MethodPost, bfia.PathPlatformStopAll, bfia.JobRef{JobID: id}, nil)
					w.requireBroken(t, d, id)
				})
			}
			for _, provider := range []string{lackedByHutong, lackedByFate} {
				t.Run("an image is "+provider, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, w, sleep{tasks: 2, seconds: map[string]int{"s1": 300}, provider: provider})
					w.requireBroken(t, d, id)
				})
			}
		})
	}
}
