package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDrawReport(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"a value", `{"metric":"auc","value":0.98765}`, "  auc 0.9877\n"},
		{"a value at a score", `{"metric":"ks","value":0.9,"threshold":0.5}`,
			"  ks 0.9000 at score 0.5000\n"},
		{"counts",
			`{"component":"Intersection","intersect_count":500,` +
				`"intersect_rate":0.95,"known":true,"own_count":526}`,
			"  intersect count 500, intersect rate 0.95, own count 526\n"},
		{"no numbers", `{"text":"all well"}`, ""},
		{"not an object", `[1,2]`, ""},
		{"not JSON", `hello`, ""},
		{"one step", `{"metric":"loss","data":[{"step":0,"loss":0.5}]}`, "  loss by step: 0.5000\n"},
		{"FATE's steps", `[{"name":"sbt_loss","type":"loss","groups":[{"name":"trees","index":1}],` +
			`"step_axis":"iterations","data":[{"metric":0.45,"step":0,"timestamp":1.5}]}]`,
			"  sbt_loss trees 1 by iterations: 0.4500\n"},
		{"FATE's steps with lists", `[{"name":"lr_loss","step_axis":"epochs","data":[{"metric":[0.25],"step":0}]}]`,
			"  lr_loss by epochs: 0.2500\n"},
		{"FATE's numbers", `[{"name":"summary","groups":[{"name":"g","index":null}],"step_axis":null,` +
			`"data":{"input_count":539,"intersect_count":509,"method":"m"}}]`,
			"  summary: input count 539, intersect count 509\n"},
		{"FATE's evaluation", `[{"name":"evaluation","data":{"lr":{"train":{"auc":0.5}}}}]`,
			"  evaluation lr train: auc 0.5\n"},
		{"FATE's empty list", `[]`, ""},
		{"a list without names", `[{"data":[1,2]}]`, ""},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, drawReport([]byte(c.document))) })
	}
}

func TestDrawRates(t *testing.T) {
	drawn := drawReport([]byte(`{"metric":"ks","value":0.5,"curve":[` +
		`{"threshold":0.9,"tpr":0.5,"fpr":0,"share":0.25,"precision":1},` +
		`{"threshold":0.1,"tpr":1,"fpr":1,"share":1,"precision":0.5}]}`))
	assert.Contains(t, drawn, "─ fpr, * tpr\n", "the KS curve without what other curves are made of")
}
