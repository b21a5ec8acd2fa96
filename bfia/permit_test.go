package bfia

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseTokenSet(t *testing.T) {
	permits, err := ParseTokenSet("B:DATASET:bank#train/1/secret/with=slash,C:DATASET:x#y/2/other")
	require.NoError(t, err)
	require.Equal(t, []Permit{{"B:DATASET:bank#train", 1, "secret/with=slash"}, {"C:DATASET:x#y", 2,
		"other"}},
		permits)
	require.Equal(t, permits[1:], PermitsFor("C", permits))
	require.Empty(t, PermitsFor("D", permits))
	none, err := ParseTokenSet("")
	require.NoError(t, err)
	require.Empty(t, none)

	for _, c := range []struct{ text, want string }{
		{"B:DATASET:a#b/1", "x-mprac-token-set[0]: must be resource/level/token"},
		{"B:DATASET:a#b/1/s3cret,", "x-mprac-token-set[1]: must be resource/level/token"},
		{"B:DATASET:a#b/one/s3cret", "[0]: the level must be a number"},
		{"B:DATASET:a#b/01/s3cret", "[0]: the level must be a number"},
		{"B:DATASET:a#b/+1/s3cret", "[0]: the level must be a number"},
		{"B:DATASET:a#b/99999999999/s3cret", "[0]: the level must be a number"},
		{"B:DATASET:a#b/-1/s3cret", "[0]: resource_level: must be from 0"},
		{"B:DATASET:a#b/1/", "[0]: token: must be visible ASCII"},
		{"B:DATASET:a#b/1/s3cret s3cret", "[0]: token: must be visible ASCII"},
		{"B:DATASET:a#b/1/s3cret\u00e9", "[0]: token: must be visible ASCII"},
		{"B:DATASET:a#b/1/" + strings.Repeat("s3cret", 100), "[0]: token: must be visible ASCII"},
		{":DATASET:a#b/1/s3cret", "[0]: resource: node: is required"},
		{"../B:DATASET:a#b/1/s3cret", "[0]:"},
		{strings.Repeat("B", 401) + "/1/s3cret", "[0]: resource: must be visible ASCII"},
		{"B:D:a/1/s3cret,B:D:a/1/s3cret", "[1]: is given twice"},
		{strings.Repeat("B:D:a/1/s3cret,", 2000), "is longer than"},
	} {
		_, err := ParseTokenSet(c.text)
		require.ErrorContains(t, err, c.want, "%.80q", c.text)
		require.NotContains(t, err.Error(), "s3cret", "the header holds secrets")
	}
}

// FuzzTokenSet checks that what is accepted is written again as it was read.
func FuzzTokenSet(f *testing.F) {
	for _, text := range []string{"", "B:DATASET:bank#train/1/htp_abc", "B:D:x/0/a/b,C:D:y/2147483647/z", ",",
		"a/b/c", "B/1/\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		permits, err := ParseTokenSet(text)
		if err != nil {
			require.Contains(t, []Code{CodeBadRequest, CodeTooLarge}, CodeOf(err))
			return
		}
		require.Equal(t, text, FormatTokenSet(permits))
		for _, p := range permits {
			require.NoError(t, CheckID("node", p.Node()))
		}
	})
}

func TestDatasetApplicationRefusals(t *testing.T) {
	good := `{"audit_id":"r1","contract_id":"c1","dataset_id":"bank#train",
		"auth_scope":{"COMPONENT":["p:1/LR","LR","LR"],"NODE":["B"]},
		"time_limit":1900000000000,"times_limit":2}`
	parse := func(text string) (DatasetApplication, error) {
		var a DatasetApplication
		if err := DecodeJSON([]byte(text), &a); err != nil {
			return a, err
		}
		return a, a.Check("B", grantNow)
	}
	a, err := parse(good)
	require.NoError(t, err)
	require.Equal(t, []string{"LR", "p:1/LR"}, a.Components())
	require.Equal(t, []string{"*"}, (&DatasetApplication{}).Components())

	for _, c := range []struct{ from, to, want string }{
		{`"r1"`, `""`, "audit_id: is required"},
		{`"r1"`, `"a/b"`, "audit_id:"},
		{`"r1"`, `7`, "audit_id"},
		{`"c1"`, `""`, "contract_id: is required"},
		{`bank#train`, `bank`, "dataset_id:"},
		{`bank#train`, `bank#*`, "dataset_id:"},
		{`bank#train`, `*`, "dataset_id:"},
		{`bank#train`, `a#b#c`, "dataset_id:"},
		{`"LR","LR"`, `"*"`, "auth_scope.COMPONENT[1]:"},
		{`"LR","LR"`, `"a/b/c"`, "auth_scope.COMPONENT[1]:"},
		{`"p:1/LR","LR","LR"`, ``, "auth_scope.COMPONENT: must have from 1"},
		{`["B"]`, `["C"]`, "auth_scope.NODE: must be B"},
		{`"NODE":["B"]`, `"PROJECT":["p"]`, "auth_scope.PROJECT: is not supported"},
		{`"NODE":["B"]`, `"ALL":["p"]`, `auth_scope: "ALL" must be`},
		{`1900000000000`, `1`, "time_limit:"},
		{`1900000000000`, `-1`, "time_limit:"},
		{`1900000000000`, `9223372036854775807`, "time_limit:"},
		{`"times_limit":2`, `"times_limit":-2`, "times_limit:"},
		{`"times_limit":2`, `"times_limit":2000000`, "times_limit:"},
	} {
		require.Contains(t, good, c.from)
		_, err := parse(strings.Replace(good, c.from, c.to, 1))
		require.ErrorContains(t, err, c.want, c.to)
	}
}

func TestDatasetConfirmationRefusals(t *testing.T) {
	type permitOf = ResourcePermit
	with := func(change func(*permitOf)) DatasetConfirmation {
		p := ResourcePermit{Token: "t", ResourceLevel: 1, ResourceType: "DATASET", ResourceID: "bank#train",
			ResourceNodeID: "A", RequestNodeID: "B"}
		change(&p)
		return DatasetConfirmation{AuditID: "r1", Status: RequestApproved, Permit: &p}
	}
	good := with(func(*permitOf) {})
	require.NoError(t, good.Check("A", "B", "bank#train"))
	require.Equal(t, Permit{"A:DATASET:bank#train", 1, "t"}, good.Permit.Permit())
	require.NoError(t, (&DatasetConfirmation{Status: RequestRejected}).Check("A", "B", "bank#train"))
	for want, c := range map[string]DatasetConfirmation{
		"status: must be":                              {Status: "MAYBE"},
		"resource_permit: is required":                 {Status: RequestApproved},
		"resource_permit.resource_node_id: is \"C\"":   with(func(p *permitOf) { p.ResourceNodeID = "C" }),
		"resource_permit.request_node_id: is \"C\"":    with(func(p *permitOf) { p.RequestNodeID = "C" }),
		"resource_permit.resource_id: is \"bank#x\"":   with(func(p *permitOf) { p.ResourceID = "bank#x" }),
		"resource_permit.resource_type: is required":   with(func(p *permitOf) { p.ResourceType = "" }),
		"resource_permit.resource_type: \"a,b\"":       with(func(p *permitOf) { p.ResourceType = "a,b" }),
		"resource_permit.token: must be":               with(func(p *permitOf) { p.Token = "a,b" }),
		"resource_permit.resource_level: must be":      with(func(p *permitOf) { p.ResourceLevel = -1 }),
		"time_limit and times_limit can't be negative": with(func(p *permitOf) { p.TimesLimit = -1 }),
	} {
		require.ErrorContains(t, c.Check("A", "B", "bank#train"), want)
	}
}

// FuzzDatasetApplication checks that what is accepted has one meaning, also after it is written again.
func FuzzDatasetApplication(f *testing.F) {
	f.Add([]byte(`{"audit_id":"r1","contract_id":"c1","dataset_id":"bank#train",
		"auth_scope":{"COMPONENT":["LR"]}}`))
	f.Add([]byte(`{"auth_scope":{"NODE":[]},"time_limit":1e3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var a, again DatasetApplication
		if DecodeJSON(body, &a) != nil || a.Check("B", grantNow) != nil {
			return
		}
		for _, component := range a.Components() {
			g := DataGrant{Partner: "B", Component: component, Dataset: a.DatasetID, Times: a.TimesLimit}
			if a.TimeLimit > 0 {
				until := time.UnixMilli(a.TimeLimit)
				g.Until = &until
			}
			require.NoError(t, g.Check("A", grantNow), "a request that can't be granted")
		}
		text, err := json.Marshal(a)
		require.NoError(t, err)
		require.NoError(t, DecodeJSON(text, &again))
		require.NoError(t, again.Check("B", grantNow))
		require.Equal(t, a.Components(), again.Components())
	})
}
