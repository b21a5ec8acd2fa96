package bfia

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawDAG draws components with inputs from components drawn before them, and shuffles them.
func drawDAG(t *rapid.T) []Component {
	n := rapid.IntRange(1, 30).Draw(t, "n")
	var components []Component
	for i := range n {
		var from []string
		for k := range i {
			if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
				from = append(from, fmt.Sprint("t", k))
			}
		}
		components = append(components, testComponent(fmt.Sprint("t", i), from...))
	}
	return rapid.Permutation(components).Draw(t, "order")
}

func planOf(components []Component) (*Plan, error) {
	var inputs []DataPort
	for i := range components {
		inputs = append(inputs, DataPort{Name: fmt.Sprint("in", i), Category: "dataset"})
	}
	desc := &Description{
		ComponentName: "any",
		RoleList:      []string{"guest"},
		InputData:     inputs,
		OutputData:    []DataPort{{Name: "out", Category: "dataset"}},
	}
	doc := &Document{
		DAG:    DAG{Components: components},
		Config: Config{Initiator: Initiator{NodeID: "A"}, Role: map[string][]string{"guest": {"A"}}},
	}
	return NewPlan(doc, func(string, string, string) (*Description, error) { return desc, nil }, "")
}

func TestPropertyPlansAreTopological(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		components := drawDAG(t)
		plan, err := planOf(components)
		require.NoError(t, err)
		require.Len(t, plan.Tasks, len(components))
		stands := map[string]bool{}
		for _, task := range plan.Tasks {
			require.False(t, stands[task.Name], "twice")
			for _, d := range task.DependsOn {
				require.True(t, stands[d], "%s before its upstream %s", task.Name, d)
			}
			stands[task.Name] = true
		}
		again, err := planOf(components)
		require.NoError(t, err)
		require.Equal(t, plan, again, "a workflow that is replayed plans the same")
	})
}

func TestPropertyDependentsAreTheDownwardClosure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		components := drawDAG(t)
		plan, err := planOf(components)
		require.NoError(t, err)
		start := rapid.SampledFrom(components).Draw(t, "start").Name
		// By its definition: what comes to start by going upstream.
		byName := map[string]Component{}
		for _, c := range components {
			byName[c.Name] = c
		}
		comes := map[string]bool{}
		var goUp func(name string) bool
		goUp = func(name string) bool {
			if known, ok := comes[name]; ok {
				return known
			}
			yes := name == start
			for _, u := range byName[name].Upstreams() {
				yes = goUp(u) || yes
			}
			comes[name] = yes
			return yes
		}
		var want []string
		for _, task := range plan.Tasks {
			if goUp(task.Name) {
				want = append(want, task.Name)
			}
		}
		require.Equal(t, want, plan.WithDependents(start))
	})
}

// TestPropertyCyclesAreNamed checks that the refusal of a DAG with a cycle names an existing cycle.
func TestPropertyCyclesAreNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		components := drawDAG(t)
		n := rapid.IntRange(1, len(components)).Draw(t, "length")
		for i := range n {
			c := &components[i]
			c.Input = append(slices.Clone(c.Input), Port{"dataset", components[(i+1)%n].Name + ".out"})
		}
		_, err := planOf(components)
		require.Error(t, err)
		require.Equal(t, CodeBadRequest, CodeOf(err))
		require.Regexp(t,
			`^dag\.components: (task t\d+ depends on itself|the tasks t\d+(, t\d+)+ form a cycle)$`,
			MessageOf(err))
	})
}

func TestPropertyStatesMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reports := rapid.SliceOf(rapid.SampledFrom(taskStates)).Draw(t, "reports")
		state := TaskPending
		for _, r := range reports {
			next := state.Next(r)
			require.GreaterOrEqual(t, next.rank(), state.rank(), "never backwards")
			require.Equal(t, next, next.Next(r), "the same report twice changes nothing")
			if state.Terminal() {
				require.Equal(t, state, next)
			}
			state = next
		}
		shuffled := rapid.Permutation(reports).Draw(t, "shuffled")
		require.Equal(t, MergeTaskStates(reports...), MergeTaskStates(shuffled...))
	})
}
