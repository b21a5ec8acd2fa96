package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hutong-reference/boost"
	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/lr"
	"hutong-reference/probe"
	"hutong-reference/psi"
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
	"Sleep":        {parameters: sleepParameters, alone: sleep},
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
