package interop

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// direction determines which party initiates and schedules a job as the guest. The other party is the host.
type direction struct {
	name        string
	guest, host string
}

var (
	hutongSchedules   = direction{"Hutong schedules", hutongNode, fateFlowNode}
	fateFlowSchedules = direction{"FATE-Flow schedules", fateFlowNode, hutongNode}
	directions        = []direction{hutongSchedules, fateFlowSchedules}
)

func (d direction) job(s sleepJob) sleepJob {
	s.guest, s.host = d.guest, d.host
	return s
}

// at returns the endpoint of a role's party.
func (d direction) at(env *environment, role string) endpoint {
	if node := map[string]string{"guest": d.guest, "host": d.host}[role]; node == fateFlowNode {
		return env.fateFlow.endpoint
	}
	return env.hutong.endpoint
}

func (d direction) submit(t *testing.T, env *environment, s sleepJob) string {
	t.Helper()
	return d.at(env, "guest").submit(t, d.job(s).document(t))
}

// await waits until the job has ended at its scheduler.
func (d direction) await(t *testing.T, env *environment, id string) {
	t.Helper()
	if d == fateFlowSchedules {
		env.awaitFateFlow(t, id, bfia.JobFinished)
	} else {
		env.awaitHutong(t, id, isFinished)
	}
}

// requireFailed checks that a job is over at both parties after its first task failed, as both report it. The
// second task never started, and no container is left.
func (env *environment) requireFailed(t *testing.T, d direction, id string) {
	t.Helper()
	d.await(t, env, id)
	env.requireNoContainers(t, id)
	require.Eventually(t, func() bool { return env.fateFlow.tasks(t, id)["s1"].Terminal() }, jobTimeout,
		pollInterval)
	env.requireEnded(t, d, id)
	failed := map[string]bfia.TaskState{"s1": bfia.TaskFailed}
	require.Equal(t, failed, env.fateFlow.tasks(t, id), "at FATE-Flow")
	require.Equal(t, failed, env.hutongTasks(t, id), "at Hutong")
	if d == hutongSchedules {
		for _, task := range env.hutong.status(t, id).Tasks {
			require.Equal(t,
				map[string]bfia.TaskState{"s1": bfia.TaskFailed, "s2": bfia.TaskReady}[task.Name],
				task.State, task.Name)
		}
	}
}

// TestFailureAndStop has a task fail at each side: on its own, killed, and with a missing image. It also
// stops a job from each side while its containers run.
func TestFailureAndStop(t *testing.T) {
	env := sharedEnvironment(t)
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			for _, role := range []string{"guest", "host"} {
				t.Run("a stop from the "+role, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, env, sleepJob{tasks: 2, seconds: map[string]int{"s1": 300}})
					env.awaitContainers(t, id)
					d.at(env, role).
						mustRequest(t, http.MethodPost, bfia.PathPlatformStopAll, bfia.JobRef{JobID: id}, nil)
					env.requireFailed(t, d, id)
				})
			}
			for _, fate := range []bool{false, true} {
				name, node := "Hutong's container is killed", hutongNode
				if fate {
					name, node = "FATE-Flow's container is killed", fateFlowNode
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, env, sleepJob{tasks: 2, seconds: map[string]int{"s1": 300}})
					for _, container := range env.awaitContainers(t, id) {
						if isFateFlowContainer(container) == fate {
							require.NoError(t, env.docker.ContainerKill(t.Context(), container, "KILL"))
						}
					}
					env.requireFailed(t, d, id)
					if d == hutongSchedules {
						require.Contains(t, env.hutong.status(t, id).Reason, node)
					}
				})
			}
			for _, c := range []struct{ provider, node string }{
				{failsAtHutong, hutongNode}, {failsAtFateFlow, fateFlowNode},
				{noImageAtHutong, hutongNode}, {noImageAtFateFlow, fateFlowNode},
			} {
				t.Run(c.provider, func(t *testing.T) {
					t.Parallel()
					id := d.submit(t, env,
						sleepJob{tasks: 2, seconds: map[string]int{"s1": 300}, provider: c.provider})
					env.requireFailed(t, d, id)
					if d == hutongSchedules {
						reason := env.hutong.status(t, id).Reason
						t.Logf("%s: %s", c.provider, reason)
						require.Contains(t, reason, c.node)
					}
				})
			}
		})
	}
}
