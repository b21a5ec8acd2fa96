package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hutong/internal/capacity"
)

func newCapacityCommand() *cobra.Command {
	load := capacity.Load{Scheduled: 1000, Joined: 1000, Tasks: 5, Partners: 1, ContainerSeconds: 60,
		ContainerCores: 1, Peak: 3, KeepDays: 30, KeepHistoryDays: 7}
	machine := capacity.Machine{Cores: 8, Use: 0.6}
	var asJSON bool
	cmd := &cobra.Command{
		Use: "capacity", Short: "Predict what a party needs for a number of jobs",
		Long: "Predicts the processor cores, processes, memory, databases, storage and network that a party needs,\n" +
			"from what jobs, tasks, partners and bytes cost when that was measured last, and says which limit\n" +
			"is met first and what moves it. It reads and asks nothing. docs/capacity.md describes the model, and how\n" +
			"near it came to measurements.",
		Example: "  hutong capacity --scheduled 5000 --joined 5000 --tasks 8 --sent 200MB --received 200MB\n" +
			"  hutong capacity --scheduled 1000000 --joined 0 --partners 9 --cores 32 --json",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := capacity.Check(load, machine); err != nil {
				return usagef("%v", err)
			}
			costs, err := capacity.Measured()
			if err != nil {
				return err
			}
			plan := capacity.PlanFor(costs, load, machine)
			if asJSON {
				text, err := json.Marshal(plan)
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), text)
			}
			return printCapacity(cmd.OutOrStdout(), plan, costs)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Float64Var(&load.Scheduled, "scheduled", load.Scheduled, "jobs a day that the party schedules")
	f.Float64Var(&load.Joined, "joined", load.Joined, "jobs a day that partners schedule")
	f.Float64Var(&load.Tasks, "tasks", load.Tasks, "tasks of a job")
	f.Float64Var(&load.Partners, "partners", load.Partners, "parties of a job besides this one")
	f.Float64Var(&load.ContainerSeconds, "seconds", load.ContainerSeconds, "seconds that a container runs")
	f.Float64Var(&load.ContainerCores, "container-cores", load.ContainerCores, "cores of a container")
	bytesFlag(f, &load.ContainerMemory, "container-memory", "2GB", "memory of a container")
	bytesFlag(f, &load.Sent, "sent", "50MB", "bytes that this party sends to partners in a job")
	bytesFlag(f, &load.Received, "received", "50MB", "bytes that it receives in a job")
	bytesFlag(f, &load.Stored, "stored", "20MB", "bytes of outputs and logs that a job leaves here")
	f.Float64Var(&load.Peak, "peak", load.Peak, "the load of the busiest hour, in multiples of the average")
	f.Float64Var(&load.KeepDays, "keep", load.KeepDays, "days that jobs are kept (jobs.retention)")
	f.Float64Var(&load.KeepHistoryDays, "keep-histories", load.KeepHistoryDays,
		"days that Temporal keeps histories")
	f.Float64Var(&machine.Cores, "cores", machine.Cores, "cores of the largest machine")
	f.Float64Var(&machine.Use, "use", machine.Use, "share of them that a process may take")
	bytesFlag(f, &machine.Disk, "disk", "1TB", "the largest disk")
	bytesFlag(f, &machine.Network, "network", "1.25GB",
		"bytes that the link to the partners carries in a second")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printCapacity(w io.Writer, p capacity.Plan, costs capacity.Costs) error {
	var err error
	say := func(format string, args ...any) {
		_, writeErr := fmt.Fprintf(w, format, args...)
		err = errors.Join(err, writeErr)
	}
	say("At the busiest hour: %s jobs a second, %s submissions a second, %s containers at once\n\n",
		formatNumber(p.Jobs), formatNumber(p.Submissions), formatNumber(p.Containers))
	rows := [][]string{{"PROCESS", "CORES", "PROCESSES", "MEMORY"}}
	for _, process := range p.Processes {
		memory := bytesOf(process.Memory)
		if process.Memory == 0 {
			memory = "-"
		}
		rows = append(rows,
			[]string{process.Name, formatNumber(process.Cores), fmt.Sprint(process.Count), memory})
	}
	rows = append(rows, []string{"containers", formatNumber(p.ContainerCores),
		formatNumber(math.Ceil(p.Containers)), bytesOf(p.ContainerMemory)})
	err = errors.Join(err, printTable(w, rows))
	say("\n")
	err = errors.Join(err, printTable(w, [][]string{{"party's database", bytesOf(p.Database)},
		{"Temporal's database", bytesOf(p.TemporalDatabase)}, {"storage", bytesOf(p.Storage)},
		{"sent to partners", bytesOf(p.Sent) + "/s"},
		{"received from partners", bytesOf(p.Received) + "/s"}}))
	say("\n")
	rows = [][]string{{"LIMIT", "USED", "WHAT MOVES IT"}}
	for _, l := range p.Limits {
		rows = append(rows, []string{l.Name, formatNumber(100*l.Share) + " %", l.Moves})
	}
	err = errors.Join(err, printTable(w, rows))
	say("\nFrom costs measured %s. A prediction is no promise: measure with jobs of your own.\n", costs.Measured)
	return err
}

// formatNumber formats a number with two significant digits, or as a whole number if that has more.
func formatNumber(v float64) string {
	if v >= 99.5 {
		return humanize.Comma(int64(math.Round(v)))
	}
	return fmt.Sprintf("%.2g", v)
}

func bytesOf(v float64) string { return humanize.Bytes(uint64(max(v, 0))) }

// byteCount is a flag with a number of bytes, such as 50MB.
type byteCount struct{ to *float64 }

// bytesFlag defines a flag with a number of bytes.
func bytesFlag(flags *pflag.FlagSet, to *float64, name, standard, usage string) {
	flag := byteCount{to}
	if err := flag.Set(standard); err != nil {
		panic(err) // a default of this program
	}
	flags.Var(flag, name, usage)
}

func (b byteCount) String() string {
	if b.to == nil {
		return "0"
	}
	return bytesOf(*b.to)
}

func (b byteCount) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return errors.New("must be a number of bytes, such as 50MB or 2GiB")
	}
	*b.to = float64(n)
	return nil
}

func (b byteCount) Type() string { return "bytes" }
