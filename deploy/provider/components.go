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
	"hutong/deploy/provider/psi"
)

// algorithm is one component: it runs either with its partner or alone.
type algorithm struct {
	parameters, inputs, outputs []string
	paired                      func(ctx context.Context, task component.Task, store component.Store, link *channel.Link) error
	alone                       func(ctx context.Context, task component.Task) error
}

// components by the name that runtime.component.name gives. CallbackOnly and Sleep are for tests and benches of a
// platform and stand in no registration.
var components = map[string]algorithm{
	"Intersection": {
		psi.Parameters, psi.Inputs, psi.Outputs,
		func(ctx context.Context, task component.Task, store component.Store, link *channel.Link) error {
			return psi.Run(ctx, task, store, link)
		}, nil,
	},
	"HeteroSecureBoost": {
		boost.Parameters, boost.Inputs, boost.Outputs,
		func(ctx context.Context, task component.Task, store component.Store, link *channel.Link) error {
			return boost.Run(ctx, task, store, link)
		}, nil,
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
