package main

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong-reference/boost"
	"hutong-reference/component"
	"hutong-reference/lr"
)

// TestRegistration checks that provider.json describes exactly the components of the program.
func TestRegistration(t *testing.T) {
	data, err := os.ReadFile("provider.json")
	require.NoError(t, err)
	type named struct {
		Name     string `json:"name"`
		Default  string `json:"defaultValue"`
		Category string `json:"category"`
	}
	var doc struct {
		Name, Version, Device, Protocol string
		Metadata                        struct{ Image string }
		Components                      map[string]struct {
			ComponentName, Provider, Version string
			RoleList                         []string
			InputParam                       []named
			InputData                        []named
			OutputData                       []named
		} `json:"components_description"`
	}

	require.NoError(t, json.Unmarshal(data, &doc))
	require.Equal(t, "hutong", doc.Name)
	require.Equal(t, "docker", doc.Device)
	require.Equal(t, "bfia", doc.Protocol)
	require.Equal(t, "hutong/provider:"+doc.Version, doc.Metadata.Image)

	names := func(list []named) []string {
		var out []string
		for _, n := range list {
			out = append(out, n.Name)
		}
		return out
	}

	for name, c := range components {
		described, ok := doc.Components[name]
		if c.roles == nil {
			require.False(t, ok, "%s is for tests only", name)
			continue
		}
		require.True(t, ok, name)
		require.Equal(t, name, described.ComponentName)
		require.Equal(t, doc.Name, described.Provider)
		require.Equal(t, doc.Version, described.Version)
		require.Equal(t, c.roles, described.RoleList)
		require.Equal(t, slices.Sorted(slices.Values(c.parameters)),
			slices.Sorted(slices.Values(names(described.InputParam))))
		require.Equal(t, c.inputs, names(described.InputData))
		require.Equal(t, c.outputs, names(described.OutputData))
	}

	require.Len(t, doc.Components, 6)

	// The defaults in the description equal the ones in the program.
	described := func(component string) map[string]string {
		values := map[string]string{}
		for _, p := range doc.Components[component].InputParam {
			values[p.Name] = p.Default
		}
		return values
	}

	wantBoost, err := boost.ReadParams(nil)
	require.NoError(t, err)
	gotBoost, err := boost.ReadParams(described("HeteroSecureBoost"))
	require.NoError(t, err)
	require.Equal(t, wantBoost, gotBoost)
	wantLR, err := lr.ReadParams(nil)
	require.NoError(t, err)
	gotLR, err := lr.ReadParams(described("HeteroLR"))
	require.NoError(t, err)
	require.Equal(t, wantLR, gotLR)
}

func TestRunTaskRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		task component.Task
		want string
	}{
		"arbiter": {
			component.Task{Component: "Intersection", Self: component.Party{Role: "arbiter"}},
			"runs as guest or host",
		},
		"no host": {component.Task{
			Component: "Intersection", TaskID: "t", SessionID: "s", Transport: "localhost:1",
			Self:    component.Party{Role: "guest", NodeID: "A"},
			Parties: map[string]component.Party{"guest.0": {Role: "guest", NodeID: "A"}},
		}, "config.node_id.host.0 is missing"},
		"no arbiter": {component.Task{
			Component: "HeteroLR", TaskID: "t", SessionID: "s", Transport: "localhost:1",
			Self: component.Party{Role: "guest", NodeID: "A"},
			Parties: map[string]component.Party{
				"guest.0": {Role: "guest", NodeID: "A"}, "host.0": {Role: "host", NodeID: "B"},
			},
		}, "config.node_id.arbiter.0 is missing"},
		"no transport": {component.Task{
			Component: "Intersection", TaskID: "t", SessionID: "s",
			Self: component.Party{Role: "guest", NodeID: "A"},
			Parties: map[string]component.Party{
				"guest.0": {Role: "guest", NodeID: "A"}, "host.0": {Role: "host", NodeID: "B"},
			},
		}, "system.transport is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, runTask(t.Context(), c.task), c.want)
		})
	}
}
