package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
	"hutong/store/storetest"
)

// TestSearchedJobs finds all jobs of a partner, a role or a text among many, page by page, also with pages
// that have none.
func TestSearchedJobs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, _ := partyJob("first")
		require.NoError(t, s.CreateJob(ctx, job, nil))
		const others = 3_300
		multiply(t, address, others)
		var want []string
		for i, age := range []time.Duration{time.Hour, time.Minute, 0, -time.Minute} {
			rare := store.Job{JobID: fmt.Sprintf("job02%d", i), PartyNodes: []string{"RARE"},
				Roles: []string{"arbiter.0"}, CreatedAt: at.Add(-age)}
			require.NoError(t, s.CreateJob(ctx, rare, nil))
			want = append([]string{rare.JobID}, want...)
		}

		for name, filter := range map[string]store.JobFilter{"partner": {Partner: "RARE"},
			"role": {Role: "arbiter"}, "text": {Text: "rare"}} {
			for _, limit := range []int{1, 3, 1000} {
				filter.Limit, filter.Before = limit, nil
				var ids []string
				pages := 0
				for {
					page, err := s.Jobs(ctx, filter)
					require.NoError(t, err)
					require.LessOrEqual(t, len(page.Jobs), limit)
					for _, j := range page.Jobs {
						ids = append(ids, j.JobID)
					}
					pages++
					if page.Next == nil {
						break
					}
					filter.Before = page.Next
				}
				require.Equal(t, want, ids, "%s, %d to a page", name, limit)
				require.LessOrEqual(t, pages, others/1000+1+len(want), "%s, %d to a page", name, limit)
			}
		}

		since, until := at.Add(-2*time.Minute), at
		page, err := s.Jobs(ctx, store.JobFilter{Partner: "RARE", Since: since, Until: until})
		require.NoError(t, err)
		require.Len(t, page.Jobs, 1)
		require.Nil(t, page.Next, "other jobs were created before or later")
	})
}
