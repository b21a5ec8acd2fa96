package bfia

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestReserveQuery checks that a reservation request survives the query of job/create, and that one that is
// not valid is refused.
func TestReserveQuery(t *testing.T) {
	for _, request := range []ReserveRequest{
		{JobID: "j1", Generation: 1, Created: time.Date(2026, 11, 23, 4, 12, 3, 5000, time.UTC)},
		{JobID: "j1", Generation: 7, Priority: 9, Created: time.Date(2026, 11, 23, 4, 12, 3, 0, time.UTC)},
	} {
		read, err := ReserveRequestOf("j1", request.Query().Get)
		require.NoError(t, err)
		require.Equal(t, &request, read)
	}

	read, err := ReserveRequestOf("j1", url.Values{}.Get)
	require.NoError(t, err)
	require.Nil(t, read)

	const created = "&created_at=2026-11-23T04:12:03Z"
	for query, want := range map[string]string{
		"reserve=one":                          `reserve: is "one", must be a number`,
		"reserve=1":                            `created_at: is "", must be a time`,
		"reserve=-1" + created:                 "generation: -1 is not between 0 and 1000000000",
		"reserve=1" + created + "&priority=10": "priority: 10 is not between 0 and 9",
		"reserve=1" + created + "&priority=x":  `priority: is "x", must be a number`,
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = ReserveRequestOf("j1", values.Get)
		require.ErrorContains(t, err, want)
		require.Equal(t, CodeBadRequest, CodeOf(err))
	}
}
