package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestPartnerContract takes a contract through its states, on both sides.
func TestPartnerContract(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		until := time.Now().Add(time.Hour)
		invitation := store.Partner{NodeID: "B", ContractID: "c1", State: bfia.ContractInvited,
			SecretSHA256: store.HashSecret("right"), InvitedUntil: &until}
		require.NoError(t, s.PutPartner(ctx, invitation))
		p, err := s.Partner(ctx, "B")
		require.NoError(t, err)
		require.False(t, p.Active())
		require.True(t, p.Pending(time.Now()))
		require.False(t, p.Pending(until.Add(time.Second)))

		application := store.Partner{
			NodeID:      "B",
			Address:     "https://b",
			Pins:        []string{"aa"},
			Credential:  "PEM",
			State:       bfia.ContractApproved,
			AppliedHere: true,
			ContractID:  "other",
		}
		for _, secret := range []string{"", "wrong"} {
			_, err = s.ApplyPartner(ctx, application, secret)
			require.Equal(t, bfia.CodeForbidden, bfia.CodeOf(err))
		}
		unknown := application
		unknown.NodeID = "X"
		_, err = s.ApplyPartner(ctx, unknown, "right")
		require.Equal(t, bfia.CodeForbidden, bfia.CodeOf(err))
		applied, err := s.ApplyPartner(ctx, application, "right")
		require.NoError(t, err)
		require.Equal(t, "c1", applied.ContractID, "the applicant can't choose it")
		require.Equal(t, bfia.ContractApplied, applied.State)
		require.False(t, applied.Active(), "an application alone makes no partner")
		again, err := s.ApplyPartner(ctx, application, "right")
		require.NoError(t, err)
		require.Equal(t, "c1", again.ContractID)
		other := application
		other.Pins = []string{"bb"}
		_, err = s.ApplyPartner(ctx, other, "right")
		require.Equal(t, bfia.CodeForbidden, bfia.CodeOf(err), "another key after the application")

		changed, err := s.SetPartnerState(ctx, "B", bfia.ContractApproved, bfia.ContractApplied)
		require.NoError(t, err)
		require.True(t, changed)
		changed, err = s.SetPartnerState(ctx, "B", bfia.ContractApproved, bfia.ContractApplied)
		require.NoError(t, err)
		require.False(t, changed)
		p, err = s.Partner(ctx, "B")
		require.NoError(t, err)
		require.True(t, p.Active())
		require.Equal(t, []string{"aa"}, p.Pins)
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.PutPartner(ctx, invitation)))

		p.Pins, p.Address = []string{"aa", "cc"}, "https://b2"
		require.NoError(t, s.UpdatePartner(ctx, *p))
		p.ContractID = "c2"
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.UpdatePartner(ctx, *p)))
		all, err := s.Partners(ctx)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, []string{"aa", "cc"}, all[0].Pins)
		require.Equal(t, "https://b2", all[0].Address)

		_, err = s.SetPartnerState(ctx, "B", bfia.ContractTerminated, bfia.ContractApproved)
		require.NoError(t, err)
		_, err = s.SetPartnerState(ctx, "B", bfia.ContractApproved, bfia.ContractApplied)
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err), "a terminated contract does not come back")
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.UpdatePartner(ctx, all[0])))
		invitation.ContractID = "c3"
		require.NoError(t, s.PutPartner(ctx, invitation), "another invitation")
		_, err = s.SetPartnerState(ctx, "Z", bfia.ContractTerminated, bfia.ContractApproved)
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
	})
}
