package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"hutong/deploy/provider/boost"
	"hutong/deploy/provider/channel"
	"hutong/deploy/provider/component"
	"hutong/deploy/provider/lr"
	"hutong/deploy/provider/probe"
	"hutong/deploy/provider/psi"
)

// algorithm is one component. It runs connected to all other parties of its roles, or alone.
type algorithm struct {
	roles                       []string
	parameters, inputs, outputs []string
	together                    func(ctx context.Context, task component.Task, store component.Store, peers component.Peers) error
	alone                       func(ctx context.Context, task component.Task) error
}

// components by the name that runtime.component.name gives. CallbackOnly and Sleep are for tests and benches of a
// platform and stand in no registration.
var components = map[string]algorithm{
	"Intersection": {
		roles:      []string{"guest", "host"},
		parameters: psi.Parameters, inputs: psi.Inputs, outputs: psi.Outputs, together: psi.Run,
	},
	"HeteroSecureBoost": {
		roles:      []string{"guest", "host"},
		parameters: boost.Parameters, inputs: boost.Inputs, outputs: boost.Outputs, together: boost.Run,
	},
	"HeteroLR": {
		roles:      []string{"guest", "host", "arbiter"},
		parameters: lr.Parameters, inputs: lr.Inputs, outputs: lr.Outputs, together: lr.Run,
	},
	"Probe": {
		roles:      []string{"guest", "host", "arbiter"},
		parameters: probe.Parameters, outputs: probe.Outputs,
		alone: func(ctx context.Context, task component.Task) error {
			return probe.Run(ctx, task, func(p component.Party) channel.Config { return config(task, p) })
		},
	},
	"CallbackOnly": {alone: emptyOutputs},
	"Sleep":        {parameters: []string{"seconds", "exit_code"}, alone: sleep},
}

func known() string {
	return strings.Join(slices.Sorted(maps.Keys(components)), ", ")
}

// emptyOutputs leaves an empty file at each output that the job wants, so that what follows finds its inputs.
func emptyOutputs(ctx context.Context, task component.Task) error {
	if len(task.Outputs) == 0 {
		return nil
	}
	store, err := component.OpenStore(task.Storage)
	if err != nil {
		return err
	}
	for name, output := range task.Outputs {
		if err := store.Write(ctx, output.Namespace+"/"+output.Name+"/data_0", nil); err != nil {
			return fmt.Errorf("output %s: %w", name, err)
		}
	}
	return nil
}

// sleep lasts for parameter seconds and logs one line each; with parameter exit_code it then exits so, without a callback,
// as a program that crashes does.
func sleep(ctx context.Context, task component.Task) error {
	r := component.NewReader(task.Parameters)
	seconds := r.Float("seconds", 1, 0, 1e6)
	code := r.Int("exit_code", 0, 0, 255)
	if err := r.Err(); err != nil {
		return err
	}
	end := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		slog.Info(fmt.Sprintf("sleeping, second %d of %v", n, seconds))
		select {
		case <-tick.C:
		case <-end.C:
			if code != 0 {
				slog.Error("exits as it was told to", "exit_code", code)
				os.Exit(code)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
