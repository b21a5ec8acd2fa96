package bfia

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawSome draws elements of a list, at least least of them, without repetitions.
func drawSome(t *rapid.T, name string, least int, of ...string) []string {
	list := rapid.Permutation(of).Draw(t, name)
	return slices.Clone(list[:rapid.IntRange(least, len(of)).Draw(t, name+" count")])
}

func drawOf(t *rapid.T, name string, of ...string) string {
	return rapid.SampledFrom(of).Draw(t, name)
}

// drawUse draws a part from few values, so that many rules and jobs are alike.
func drawUse(t *rapid.T) ApprovalUse {
	u := ApprovalUse{Task: drawOf(t, "task", "t1", "t2"), Role: drawOf(t, "role", "host.0", "host.1"),
		Provider: "p", Version: drawOf(t, "version", "1", "2"),
		Component: drawOf(t, "component", "LR", "PSI"),
		Images:    drawSome(t, "images", 1, "docker sha256:1", "docker sha256:2", `process ["a"]`),
		Derived:   drawSome(t, "derived", 0, "n#ours", "n#more"),
		Model:     drawOf(t, "model", "", "j0:train.m"),
		Parameters: map[string]json.RawMessage{
			"rate": json.RawMessage(drawOf(t, "rate", "0.5", "0.7"))}}
	if u.Dataset = drawOf(t, "dataset", "", "n#ours"); u.Dataset != "" {
		u.Columns = drawSome(t, "columns", 1, "id", "age", "debt")
		u.Named = drawSome(t, "named", 0, u.Columns...)
	}
	return u
}

func drawScope(t *rapid.T) ApprovalScope {
	s := ApprovalScope{Initiator: drawOf(t, "initiator", "A", "C"), Scheduler: "A",
		FlowID: drawOf(t, "flow", "f", "g"), Parties: drawSome(t, "parties", 0, "A", "C")}
	for range rapid.IntRange(1, 3).Draw(t, "uses") {
		s.Uses = append(s.Uses, drawUse(t))
	}
	for _, key := range drawSome(t, "learns", 0, "ids", "m") {
		s.Learns = append(s.Learns, ApprovalLearned{NodeID: drawOf(t, "learner", "A", "C"), Provider: "p",
			Component: "LR", Type: "dataset", Key: key})
	}
	return s
}

// drawRule draws a rule of a job, with some things left open.
func drawRule(t *rapid.T, job ApprovalScope) ApprovalScope {
	rule := copyScope(t, job)
	rule.Any = drawSome(t, "any", 0, anyOfScope...)
	for i := range rule.Uses {
		rule.Uses[i].Any = drawSome(t, "any of a use", 0, anyOfUse...)
	}
	return rule
}

func copyScope(t *rapid.T, s ApprovalScope) ApprovalScope {
	text, err := json.Marshal(s)
	require.NoError(t, err)
	var c ApprovalScope
	require.NoError(t, json.Unmarshal(text, &c))
	return c
}

// dropOne removes a drawn element of a list, but not the last of those that must remain.
func dropOne[T any](t *rapid.T, list []T, remain int) []T {
	if len(list) <= remain {
		return list
	}
	i := rapid.IntRange(0, len(list)-1).Draw(t, "dropped")
	return slices.Delete(slices.Clone(list), i, i+1)
}

// narrow takes one thing away that a rule allows.
func narrow(t *rapid.T, s ApprovalScope) ApprovalScope {
	s = copyScope(t, s)
	u := &s.Uses[rapid.IntRange(0, len(s.Uses)-1).Draw(t, "use")]
	switch rapid.IntRange(0, 8).Draw(t, "narrow") {
	case 0:
		s.Parties = dropOne(t, s.Parties, 0)
	case 1:
		s.Learns = dropOne(t, s.Learns, 0)
	case 2:
		s.Uses = dropOne(t, s.Uses, 0)
	case 3:
		s.Any = dropOne(t, s.Any, 0)
	case 4:
		u.Any = dropOne(t, u.Any, 0)
	case 5:
		u.Images = dropOne(t, u.Images, 0)
	case 6:
		u.Columns = dropOne(t, u.Columns, 0)
	case 7:
		u.Named = dropOne(t, u.Named, 1) // none means all
	case 8:
		u.Derived = dropOne(t, u.Derived, 0)
	}
	return s
}

// widen adds one thing to what a job does.
func widen(t *rapid.T, s ApprovalScope) ApprovalScope {
	s = copyScope(t, s)
	u := &s.Uses[rapid.IntRange(0, len(s.Uses)-1).Draw(t, "use")]
	switch rapid.IntRange(0, 7).Draw(t, "widen") {
	case 0:
		s.Parties = append(s.Parties, drawOf(t, "party", "A", "C", "D"))
	case 1:
		s.Learns = append(s.Learns, ApprovalLearned{NodeID: "A", Provider: "p", Component: "LR",
			Type: "dataset", Key: drawOf(t, "key", "ids", "m", "new")})
	case 2:
		s.Uses = append(s.Uses, drawUse(t))
	case 3:
		u.Images = append(u.Images, drawOf(t, "image", "docker sha256:1", "docker sha256:9", "docker"))
	case 4:
		u.Columns = append(u.Columns, drawOf(t, "column", "id", "age", "phone"))
	case 5:
		if len(u.Named) > 0 {
			u.Named = append(u.Named, drawOf(t, "column", "id", "age", "phone"))
		}
	case 6:
		u.Named = nil // its parameters may mean all columns
	case 7:
		u.Derived = append(u.Derived, drawOf(t, "derived dataset", "n#ours", "n#other"))
	}
	return s
}

func covers(rule, job ApprovalScope) bool { return len(rule.Mismatches(job)) == 0 }

// TestPropertyRuleOfAJobCoversIt checks that the rule which is made of a job covers this job, also if it
// leaves more open.
func TestPropertyRuleOfAJobCoversIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := drawScope(t)
		require.Empty(t, job.Mismatches(job))
		wider, err := job.Open(drawSome(t, "open", 0, slices.Concat(anyOfScope, anyOfUse)...))
		require.NoError(t, err)
		require.Empty(t, wider.Mismatches(job))
		require.NotEmpty(t, wider.Sentences())
	})
}

// TestPropertyFewerPermissionsNeverApproveMore checks that a rule covers each job which a narrower one
// covers.
func TestPropertyFewerPermissionsNeverApproveMore(t *testing.T) {
	narrowed := 0
	rapid.Check(t, func(t *rapid.T) {
		job := drawScope(t)
		rule := drawRule(t, job)
		if rapid.Bool().Draw(t, "another job") {
			job = drawScope(t)
		}
		less := narrow(t, rule)
		if covers(less, job) {
			require.True(t, covers(rule, job), "the narrower rule covers the job, the wider one does not")
		} else if covers(rule, job) {
			narrowed++
		}
	})
	require.Positive(t, narrowed, "no rule that was narrowed made a difference")
}

// TestPropertyWiderJobNeedsAWiderRule checks that no rule covers a job which does more than another one that
// the rule does not cover.
func TestPropertyWiderJobNeedsAWiderRule(t *testing.T) {
	refused := 0
	rapid.Check(t, func(t *rapid.T) {
		job := drawScope(t)
		rule := drawRule(t, job)
		if rapid.Bool().Draw(t, "another rule") {
			rule = drawRule(t, drawScope(t))
		}
		wider := widen(t, job)
		if covers(rule, wider) {
			require.True(t, covers(rule, job), "the rule covers the wider job, and not the narrower one")
		} else if covers(rule, job) {
			refused++
		}
	})
	require.Positive(t, refused, "no job that was widened was refused")
}

// TestPropertyRuleConditions checks that no rule approves which has ended, was removed, or was made by who
// submitted the job where four eyes are required.
func TestPropertyRuleConditions(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		job := drawScope(t)
		var rules []ApprovalRule
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			r := ApprovalRule{ID: drawOf(t, "id", "r1", "r2"), Scope: drawRule(t, job),
				Until:     now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "until")) * time.Hour),
				CreatedBy: drawOf(t, "maker", "", "ann", "bob")}
			if r.CreatedBy != "" {
				r.Credential = drawOf(t, "credential", "c1", "c2")
			}
			if rapid.Bool().Draw(t, "removed") {
				r.RemovedAt = &now
			}
			rules = append(rules, r)
		}
		c := RuleConditions{Now: now, FourEyes: rapid.Bool().Draw(t, "four eyes")}
		for range rapid.IntRange(0, 2).Draw(t, "submitters") {
			c.Submitters = append(c.Submitters, RuleClient{Name: drawOf(t, "submitter", "ann", "eve"),
				Credential: drawOf(t, "submitter's credential", "c1", "c3")})
		}
		may := func(r *ApprovalRule) bool {
			if r.RemovedAt != nil || !r.Until.After(now) {
				return false
			}
			return !c.FourEyes || !slices.ContainsFunc(c.Submitters, func(s RuleClient) bool {
				return r.CreatedBy == "" || s.Name == r.CreatedBy || s.Credential == r.Credential
			})
		}
		rule, near := ChooseRule(rules, job, c)
		if rule != nil {
			require.True(t, may(rule))
			require.Nil(t, near)
			return
		}
		require.False(t, slices.ContainsFunc(rules, func(r ApprovalRule) bool { return may(&r) }),
			"all rules cover the job")
		if near != nil {
			require.NotEmpty(t, near.Mismatches)
		}
	})
}
