package runner

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
)

// labelSession holds the transport session of a container.
const labelSession = "session"

// Access is what a container runs, and what it may therefore use.
type Access struct {
	JobID, TaskID, Role, Session string
	Inputs, Outputs              []bfia.Address
}

// RunningContainer is a container that has not ended, and its device.
type RunningContainer struct {
	driver.Container
	Device string
}

// Containers returns the containers of this runner and deployment that have not ended.
func (r *Runner) Containers(ctx context.Context) ([]RunningContainer, error) {
	var all []RunningContainer
	for device, d := range r.Drivers {
		containers, err := d.List(ctx)
		if err != nil {
			return nil, fmt.Errorf("failed to list the containers on %s: %w", device, err)
		}
		for _, c := range containers {
			if c.State != driver.Exited && c.Labels[labelDeployment] == r.Deployment {
				all = append(all, RunningContainer{c, device})
			}
		}
	}
	return all, nil
}

// Access returns what a container of this runner may use, by its labels and the record of its job.
func (r *Runner) Access(ctx context.Context, c driver.Container) (Access, error) {
	a := Access{JobID: c.Labels["job_id"], TaskID: c.Labels["task_id"], Role: c.Labels["role"],
		Session: c.Labels[labelSession]}
	role, index, _ := strings.Cut(a.Role, ".")
	number, err := strconv.Atoi(index)
	if err != nil || a.JobID == "" || a.TaskID == "" || a.Session == "" {
		return a, fmt.Errorf("failed to read the labels of container %s: one of job_id, task_id, role and session "+
			"is missing", c.Name)
	}
	spec, err := activities.ContainerSpec(ctx, r.Store,
		activities.TaskKey{JobID: a.JobID, Task: c.Labels["task"], Role: role, Index: number},
		bfia.Part{Role: role, Index: number, NodeID: r.Node}, a.TaskID)
	if err != nil {
		return a, err
	}
	for _, in := range spec.Inputs {
		a.Inputs = append(a.Inputs, in.Address)
	}
	for _, out := range spec.Outputs {
		a.Outputs = append(a.Outputs, out.Address)
	}
	return a, nil
}
