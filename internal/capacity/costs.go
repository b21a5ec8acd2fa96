// Package capacity predicts what a party needs for a number of jobs: processor cores, processes, memory,
// databases, disks and network. It multiplies what a job, a task, a partner and a byte cost, which
// `make bench BENCH_FLAGS='-only capacity'` has measured. docs/capacity.md has the model and its checks.
package capacity

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

// Cost is what one job costs of something, by the job's size.
type Cost struct {
	Job         float64 `json:"job"`          // whatever its size
	Task        float64 `json:"task"`         // for each of its tasks
	Partner     float64 `json:"partner"`      // for each party of it but this one
	PartnerTask float64 `json:"partner_task"` // for each task at each of these
}

// Of returns the cost of a job with a number of tasks and of partners.
func (c Cost) Of(tasks, partners float64) float64 {
	return c.Job + c.Task*tasks + c.Partner*partners + c.PartnerTask*tasks*partners
}

// Fit returns the costs that have four measured values: of jobs of few and many tasks, with few and many
// partners.
func Fit(tasks, partners [2]float64, measured func(tasks, partners float64) float64) Cost {
	t0, t1, p0, p1 := tasks[0], tasks[1], partners[0], partners[1]
	few, tall := measured(t0, p0), measured(t1, p0)
	wide, both := measured(t0, p1), measured(t1, p1)
	c := Cost{PartnerTask: (both - tall - wide + few) / ((t1 - t0) * (p1 - p0))}
	c.Task = (tall-few)/(t1-t0) - c.PartnerTask*p0
	c.Partner = (wide-few)/(p1-p0) - c.PartnerTask*t0
	c.Job = few - c.Task*t0 - c.Partner*p0 - c.PartnerTask*t0*p0
	return c
}

// FitTasks returns the costs that have two measured values, of jobs of few and many tasks, where partners
// cost nothing.
func FitTasks(tasks [2]float64, measured func(tasks float64) float64) Cost {
	few, many := measured(tasks[0]), measured(tasks[1])
	task := (many - few) / (tasks[1] - tasks[0])
	return Cost{Job: few - task*tasks[0], Task: task}
}

// Side holds the costs of a job at a party. Those of processes are milliseconds of processor time, without
// the containers' own; those of databases are bytes, as long as the job is kept. The cost of SQLite is in the
// processes that use it.
type Side struct {
	API              Cost `json:"api"`
	Worker           Cost `json:"worker"`
	Transport        Cost `json:"transport"`
	Temporal         Cost `json:"temporal"`
	Database         Cost `json:"database"`
	TemporalDatabase Cost `json:"temporal_database"`
}

// Processes holds one number for each kind of process.
type Processes struct {
	API       float64 `json:"api"`
	Worker    float64 `json:"worker"`
	Transport float64 `json:"transport"`
	Temporal  float64 `json:"temporal"`
}

// Costs are measured unit costs.
type Costs struct {
	// Measured is the day of the measurement, and on what.
	Measured string `json:"measured"`
	// Scheduler is of jobs that the party schedules, with its own parts of them.
	Scheduler Side `json:"scheduler"`
	// Participant is of jobs that a partner schedules. It does not depend on the number of partners.
	Participant Side `json:"participant"`
	// Idle is the share of a core that a process without work takes.
	Idle Processes `json:"idle"`
	// Memory is the resident memory of a process that has worked, in bytes.
	Memory Processes `json:"memory"`
	// SendByte and ReceiveByte are the processor time of the transport for each byte, in nanoseconds.
	SendByte    float64 `json:"send_byte"`
	ReceiveByte float64 `json:"receive_byte"`
	// Container is the processor time of Docker Engine for each container, in milliseconds.
	Container float64 `json:"container"`
}

//go:embed costs.json
var measured []byte

// Measured returns the unit costs that were measured last.
func Measured() (Costs, error) {
	var c Costs
	if err := json.Unmarshal(measured, &c); err != nil {
		return c, fmt.Errorf("failed to read the measured costs: %w", err)
	}
	return c, nil
}
