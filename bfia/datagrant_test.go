package bfia

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var grantNow = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func TestChooseGrants(t *testing.T) {
	past, future, later := grantNow, grantNow.Add(time.Hour), grantNow.Add(2*time.Hour)
	need := GrantNeed{Task: "t", Provider: "p", Version: "1.0", Component: "LR", Dataset: "bank#train"}
	none := need
	none.Dataset = ""
	grant := func(id, component, dataset string) DataGrant {
		return DataGrant{ID: id, Partner: "B", Component: component, Dataset: dataset}
	}
	with := func(g DataGrant, change func(*DataGrant)) DataGrant {
		change(&g)
		return g
	}
	all := grant("g", "LR", "bank#train")
	for _, c := range []struct {
		name    string
		grants  []DataGrant
		counted map[string]bool
		needs   []GrantNeed
		want    []string
		refused string
	}{
		{"exact", []DataGrant{all}, nil, []GrantNeed{need}, []string{"g"}, ""},
		{"patterns", []DataGrant{grant("g", "p:1.*/L?", "ba*#*")}, nil, []GrantNeed{need}, []string{"g"},
			""},
		{"all", []DataGrant{grant("g", "*", "*")}, nil, []GrantNeed{need, none}, []string{"g"}, ""},
		{"provider", []DataGrant{grant("g", "p/LR", "bank#train")}, nil, []GrantNeed{need}, []string{"g"},
			""},
		{"no dataset is needed", []DataGrant{grant("g", "LR", "")}, nil, []GrantNeed{none}, []string{"g"},
			""},
		{"no needs", nil, nil, nil, nil, ""},
		{"none", nil, nil, []GrantNeed{need}, nil, "partner: B has no grant at A (task t on dataset " +
			"bank#train); an administrator of A grants it with: hutong grant add --partner B " +
			"--component p/LR --dataset 'bank#train'"},
		{"other partner", []DataGrant{with(all, func(g *DataGrant) { g.Partner = "C" })}, nil,
			[]GrantNeed{need}, nil, "partner: B has no grant"},
		{"partner is no pattern", []DataGrant{with(all, func(g *DataGrant) { g.Partner = "*" })}, nil,
			[]GrantNeed{need}, nil, "partner: B has no grant"},
		{"component", []DataGrant{grant("g", "L", "*")}, nil, []GrantNeed{need}, nil,
			"component: B has no grant for p/LR at A"},
		{"case", []DataGrant{grant("g", "lr", "*")}, nil, []GrantNeed{need}, nil, "component: B"},
		{"other provider", []DataGrant{grant("g", "q/LR", "*")}, nil, []GrantNeed{need}, nil,
			"component: B"},
		{"other version", []DataGrant{grant("g", "p:2/LR", "*")}, nil, []GrantNeed{need}, nil,
			"component: B"},
		{"dataset", []DataGrant{grant("g", "LR", "bank#test")}, nil, []GrantNeed{need}, nil,
			"dataset: B has no grant for p/LR on dataset bank#train at A"},
		{"without dataset", []DataGrant{grant("g", "LR", "")}, nil, []GrantNeed{need}, nil, "dataset: B"},
		{"namespace", []DataGrant{grant("g", "LR", "ban#*")}, nil, []GrantNeed{need}, nil, "dataset: B"},
		{"component and dataset of two grants", []DataGrant{grant("g", "LR", "bank#test"),
			grant("h", "PSI", "bank#train")}, nil, []GrantNeed{need}, nil, "dataset: B"},
		{"expired", []DataGrant{with(all, func(g *DataGrant) { g.Until = &past })}, nil, []GrantNeed{need},
			nil, "ended at 2026-11-29T12:00:00Z"},
		{"revoked", []DataGrant{with(all, func(g *DataGrant) { g.RevokedAt = &past })}, nil,
			[]GrantNeed{need}, nil, "was revoked at 2026-11-29T12:00:00Z"},
		{"used up", []DataGrant{with(all, func(g *DataGrant) { g.Times, g.Used = 2, 2 })}, nil,
			[]GrantNeed{need}, nil, "was for 2 jobs, which have run"},
		{"used up by this job", []DataGrant{with(all, func(g *DataGrant) { g.Times, g.Used = 2, 2 })},
			map[string]bool{"g": true}, []GrantNeed{need}, []string{"g"}, ""},
		{"counted, but revoked", []DataGrant{with(all, func(g *DataGrant) { g.RevokedAt = &past })},
			map[string]bool{"g": true}, []GrantNeed{need}, nil, "was revoked"},
		{"unlimited before limited", []DataGrant{
			with(grant("a", "LR", "*"), func(g *DataGrant) { g.Times = 1 }), grant("b", "LR", "*")},
			nil, []GrantNeed{need}, []string{"b"}, ""},
		{"first end", []DataGrant{with(grant("a", "*", "*"), func(g *DataGrant) { g.Until = &later }),
			with(grant("b", "*", "*"), func(g *DataGrant) { g.Until = &future })}, nil, []GrantNeed{need},
			[]string{"b"}, ""},
		{"one of several for all", []DataGrant{
			with(grant("a", "LR", "bank#train"), func(g *DataGrant) { g.Times = 1 }),
			with(grant("b", "LR", "*"), func(g *DataGrant) { g.Times = 1 })}, nil, []GrantNeed{need, none},
			[]string{"a"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ChooseGrants("A", "B", c.grants, c.counted, c.needs, grantNow)
			if c.refused != "" {
				require.Equal(t, CodeForbidden, CodeOf(err))
				require.ErrorContains(t, err, c.refused)
				return
			}
			require.NoError(t, err)
			require.ElementsMatch(t, c.want, got)
		})
	}
}

func TestGrantCheck(t *testing.T) {
	past := grantNow
	for _, c := range []struct {
		grant   DataGrant
		refused string
	}{
		{DataGrant{Partner: "B", Component: "LR"}, ""},
		{DataGrant{Partner: "B", Component: "p:2.0.*/Hetero*", Dataset: "bank#t?"}, ""},
		{DataGrant{Partner: "B", Component: "*", Dataset: "*", Times: 1}, ""},
		{DataGrant{Component: "LR"}, "partner: is required"},
		{DataGrant{Partner: "*", Component: "LR"}, "partner:"},
		{DataGrant{Partner: "A", Component: "LR"}, "own jobs need no grant"},
		{DataGrant{Partner: "B"}, "component:"},
		{DataGrant{Partner: "B", Component: "[a-z]"}, "component:"},
		{DataGrant{Partner: "B", Component: "a/b/c"}, "component:"},
		{DataGrant{Partner: "B", Component: "p:/LR"}, "component:"},
		{DataGrant{Partner: "B", Component: "LR", Dataset: "bank"}, "dataset:"},
		{DataGrant{Partner: "B", Component: "LR", Dataset: "#"}, "dataset:"},
		{DataGrant{Partner: "B", Component: "LR", Dataset: `bank#\`}, "dataset:"},
		{DataGrant{Partner: "B", Component: "LR", Times: -1}, "times:"},
		{DataGrant{Partner: "B", Component: "LR", Until: &past}, "until:"},
	} {
		err := c.grant.Check("A", grantNow)
		if c.refused == "" {
			require.NoError(t, err, "%+v", c.grant)
			continue
		}
		require.ErrorContains(t, err, c.refused, "%+v", c.grant)
	}
}
