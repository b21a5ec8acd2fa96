package main

import (
	"fmt"
	"slices"
	"strings"

	"hutong/bfia"
)

// row is a task at its place in the DAG.
type row struct {
	task  bfia.TaskStatus
	depth int      // length of the longest path from a root
	after []string // the task's dependencies; nil if the row above is the only one
}

func (r row) name() string {
	indent := min(r.depth, 6)
	if indent == 0 {
		return plain(r.task.Name)
	}

	return strings.Repeat("  ", indent-1) + "└ " + plain(r.task.Name)
}

// rows sorts the tasks topologically. A task follows directly after one of its dependencies where that is
// possible.
func rows(tasks []bfia.TaskStatus) []row {
	depths := taskDepths(tasks)
	known := map[string]bool{}
	for _, t := range tasks {
		known[t.Name] = true
	}

	var out []row
	placed := map[string]bool{}
	place := func(i int) {
		r := row{task: tasks[i], depth: depths[i] - 1}
		deps := tasks[i].DependsOn
		if len(deps) > 1 || len(deps) == 1 && (len(out) == 0 || out[len(out)-1].task.Name != deps[0]) {
			r.after = deps
		}
		placed[tasks[i].Name] = true
		out = append(out, r)
	}
	isReady := func(t bfia.TaskStatus) bool {
		return !slices.ContainsFunc(t.DependsOn,
			func(name string) bool { return known[name] && !placed[name] })
	}

	for len(out) < len(tasks) {
		next := -1
		for i, t := range tasks {
			if placed[t.Name] || !isReady(t) {
				continue
			}
			follows := len(out) > 0 && slices.Contains(t.DependsOn, out[len(out)-1].task.Name)
			if next < 0 || follows {
				next = i
			}
			if follows {
				break
			}
		}

		// Parties reject a DAG with a cycle or a duplicate name. The loop must end for such a DAG all the
		// same.
		if next < 0 {
			next = slices.IndexFunc(tasks, func(t bfia.TaskStatus) bool { return !placed[t.Name] })
			if next < 0 {
				break
			}
		}
		place(next)
	}

	return out
}

// taskDepths returns the length of the longest path from a root to each task, counted in tasks.
func taskDepths(tasks []bfia.TaskStatus) []int {
	index := map[string]int{}
	for i, t := range tasks {
		index[t.Name] = i
	}

	depths := make([]int, len(tasks)) // 0: not computed yet
	var depth func(int) int
	depth = func(i int) int {
		if depths[i] == 0 {
			depths[i] = 1
			for _, name := range tasks[i].DependsOn {
				if up, ok := index[name]; ok && up != i {
					depths[i] = max(depths[i], depth(up)+1)
				}
			}
		}
		return depths[i]
	}
	for i := range tasks {
		depth(i)
	}

	return depths
}

// selectRows chooses which rows a low terminal shows: failed and running tasks first, then those that have
// not started, then those that succeeded. The order of the rows stays.
func selectRows(all []row, limit int) (shown, hidden []row) {
	if limit = max(limit, 1); limit >= len(all) {
		return all, nil
	}

	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	rank := func(i int) int {
		switch all[i].task.State {
		case bfia.TaskFailed, bfia.TaskRunning:
			return 0
		case bfia.TaskSuccess:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(a) - rank(b) })

	chosen := map[int]bool{}
	for _, i := range order[:limit] {
		chosen[i] = true
	}
	for i, r := range all {
		if chosen[i] {
			shown = append(shown, r)
		} else {
			hidden = append(hidden, r)
		}
	}

	return shown, hidden
}

// countStates summarises hidden tasks: "12 tasks: 10 SUCCESS, 2 PENDING".
func countStates(hidden []row) string {
	count := map[bfia.TaskState]int{}
	for _, r := range hidden {
		count[r.task.State]++
	}

	var counts []string
	for _, s := range []bfia.TaskState{bfia.TaskFailed, bfia.TaskRunning, bfia.TaskReady, bfia.TaskPending,
		bfia.TaskSuccess} {
		if count[s] > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", count[s], s))
		}
	}

	return fmt.Sprintf("%d tasks: %s", len(hidden), strings.Join(counts, ", "))
}
