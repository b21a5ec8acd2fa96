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
	require.Eventually(t, func() bool { return w.fate.tasks(t, id)["s1"].Terminal() }, limit, tick)
	w.requireEnded(t, d, id)
	failed := map[string]bfia.TaskState{"s1": bfia.TaskFailed}
	require.Equal(t, failed, w.fate.tasks(t, id), "at FATE-Flow")
	require.Equal(t, failed, w.hutongTasks(t, id), "at Hutong")
	if d == hutongLeads {
		for _, task := range w.hutong.status(t, id).Tasks {
			require.Equal(t, map[string]bfia.TaskState{"s1": bfia.TaskFailed, "s2": bfia.TaskReady}[task.Name], task.State, task.Name)
		}
	}
}

// TestFailureAndStop: a task that fails at one side, then at the other: by its own word, killed, and with an image that
// is not there; a stop from either side while containers run.
func TestFailureAndStop(t *testing.T) {
	w := theWorld(t)
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			for _, role := range []string{"guest", "host"} {
				t.Run("a stop from the "+role, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, w, sleep{tasks: 2, seconds: map[string]int{"s1": 300}})
					w.awaitContainers(t, id)
					d.at(w, role).good(t, http.MethodPost, bfia.PathPlatformStopAll, bfia.JobRef{JobID: id}, nil)
					w.requireBroken(t, d, id)
				})
			}
			for _, fate := range []bool{false, true} {
				name, node := "Hutong's container is killed", hutongNode
				if fate {
					name, node = "FATE-Flow's container is killed", fateNode
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, w, sleep{tasks: 2, seconds: map[string]int{"s1": 300}})
					for _, container := range w.awaitContainers(t, id) {
						if isFateContainer(container) == fate {
							require.NoError(t, w.docker.ContainerKill(t.Context(), container, "KILL"))
						}
					}
					w.requireBroken(t, d, id)
					if d == hutongLeads {
						require.Contains(t, w.hutong.status(t, id).Reason, node)
					}
				})
			}
			for _, c := range []struct{ provider, node string }{
				{failsAtHutong, hutongNode}, {failsAtFate, fateNode}, {lackedByHutong, hutongNode}, {lackedByFate, fateNode},
			} {
				t.Run(c.provider, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, w, sleep{tasks: 2, seconds: map[string]int{"s1": 300}, provider: c.provider})
					w.requireBroken(t, d, id)
					if d == hutongLeads {
						reason := w.hutong.status(t, id).Reason
						t.Logf("%s: %s", c.provider, reason)
						require.Contains(t, reason, c.node)
					}
				})
			}
		})
	}
}
