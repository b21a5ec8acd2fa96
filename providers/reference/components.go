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

// algorithm describes one component. Exactly one of runConnected and runAlone is set: the component runs with
// links to all other parties of its roles, or without.
type algorithm struct {
	roles                       []string
	parameters, inputs, outputs []string

	runConnected func(context.Context, component.Task, component.Store, component.Peers) error
	runAlone     func(context.Context, component.Task) error
}

// components maps the values of runtime.component.name to the algorithms. CallbackOnly and Sleep serve tests
// and benchmarks of a platform; the registration does not list them.
var components = map[string]algorithm{
	"Intersection": {
		roles:      []string{"guest", "host"},
		parameters: psi.Parameters, inputs: psi.Inputs, outputs: psi.Outputs, runConnected: psi.Run,
	},
	"HeteroSecureBoost": {
		roles:      []string{"guest", "host"},
		parameters: boost.Parameters, inputs: boost.Inputs, outputs: boost.Outputs, runConnected: boost.Run,
	},
	boost.PredictName: {
		roles:      []string{"guest", "host"},
		parameters: boost.PredictParameters, inputs: boost.PredictInputs, outputs: boost.PredictOutputs,
		runConnected: boost.Predict,
	},
	"HeteroLR": {
		roles:      []string{"guest", "host", "arbiter"},
		parameters: lr.Parameters, inputs: lr.Inputs, outputs: lr.Outputs, runConnected: lr.Run,
	},
	lr.PredictName: {
		roles:      []string{"guest", "host", "arbiter"},
		parameters: lr.PredictParameters, inputs: lr.PredictInputs, outputs: lr.PredictOutputs,
		runConnected: lr.Predict,
	},
	"Probe": {
		roles:      []string{"guest", "host", "arbiter"},
		parameters: probe.Parameters, outputs: probe.Outputs,
		runAlone: func(ctx context.Context, task component.Task) error {
			return probe.Run(ctx, task, func(p component.Party) channel.Config { return linkConfig(task, p) })
		},
	},
	"CallbackOnly": {runAlone: writeEmptyOutputs},
	"Sleep":        {parameters: sleepParameters, runAlone: sleep},
}

// componentNames lists all components for messages.
func componentNames() string {
	return strings.Join(slices.Sorted(maps.Keys(components)), ", ")
}

// writeEmptyOutputs writes an empty object to each declared output, so that later tasks find their inputs.
func writeEmptyOutputs(ctx context.Context, task component.Task) error {
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
