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
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, drawReport([]byte(c.document))) })
	}
}
