package api

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestPartnerData checks that each dataset that a partner gave to earlier jobs is listed once, with the
// newest job and the columns that its parameters name. This party's own and those of refused jobs are not.
func TestPartnerData(t *testing.T) {
	p := newParty(t).withProvider().withData()
	query := func(parameters string) []bfia.PartnerData {
		t.Helper()
		var list []bfia.PartnerData
		p.good(get(bfia.PathDataPartners + parameters)).into(&list)
		return list
	}
	require.Equal(t, []bfia.PartnerData{}, query(""))

	const other = "JG0110017800000000"
	create := func(id, node, dataset string) {
		t.Helper()
		body := edited(t, id, []string{node}, "config", "role", "host")
		p.good(post(bfia.PathCreate, strings.ReplaceAll(body, "testspace#test_host", dataset)).from(guest))
	}
	create("j1", other, "testspace#test_host")
	create("j2", other, "shop#orders")
	create("j3", other, "testspace#test_host")
	create("j4", guest, "testspace#test_host")

	list := query("")
	require.Len(t, list, 2)
	require.Equal(t, other, list[0].NodeID)
	require.Equal(t, "testspace#test_host", list[0].Dataset)
	require.Equal(t, "j3", list[0].JobID, "the newest job")
	require.NotZero(t, list[0].CreatedAt)
	require.Contains(t, list[0].Parameters, bfia.PartnerParameter{Provider: "unionpay",
		Component: "Intersection", Name: "id", Value: "id"})
	require.Equal(t, "shop#orders", list[1].Dataset)
	require.Equal(t, "j2", list[1].JobID)
	require.Equal(t, "JG0100001100000000", list[1].FlowID)

	require.Equal(t, list, query("?node_id="+other))
	require.Equal(t, []bfia.PartnerData{}, query("?node_id="+guest), "this party is no partner of itself")

	rehearsal := strings.ReplaceAll(edited(t, "j5", []string{other}, "config", "role", "host"), "testspace#",
		"rehearsal.testspace#")
	p.good(post(bfia.PathCreate, strings.ReplaceAll(rehearsal, "rehearsal.testspace#test_host",
		"rehearsal.shop#orders")).from(guest))
	list = query("")
	require.Len(t, list, 2)
	require.Equal(t, "shop#orders", list[0].Dataset, "not the synthetic one")
	require.Equal(t, "j5", list[0].JobID)

	require.NoError(t, p.store.UpdateJob(t.Context(), "j2", bfia.JobRejected, "no", time.Now()))
	require.NoError(t, p.store.UpdateJob(t.Context(), "j5", bfia.JobRejected, "no", time.Now()))
	require.Len(t, query(""), 1, "a refused job says nothing of a dataset")
}
