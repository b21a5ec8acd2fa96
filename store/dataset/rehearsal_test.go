package dataset

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// TestRehearse checks that the synthetic dataset of a dataset has its columns, types, id and label, and none
// of its values.
func TestRehearse(t *testing.T) {
	each(t, func(t *testing.T, d *Datasets, _ blob.Store) {
		const canary = "customer-7781"
		upload := func(namespace, rows string, sid bool) bfia.Address {
			_, err := d.Ingest(t.Context(), IngestRequest{Namespace: namespace, Name: "train", Head: true,
				Partitions: 3, ExtendSID: sid,
				Meta: json.RawMessage(`{"delimiter":";","match_id_name":"id","label_name":"y","note":"kept"}`)},
				strings.NewReader(rows))
			require.NoError(t, err)
			return bfia.Address{Namespace: namespace, Name: "train"}
		}
		guest := upload("a",
			"id;y;age;income;town\n"+canary+";1;987654;1234.5;"+canary+"\nother-8812;0;3;4.5;x\n", true)
		host := upload("b", "id;y;kind\n"+canary+";1;"+canary+"\nother-8812;0;x\n", false)

		ids := map[string]int{}
		for _, real := range []bfia.Address{guest, host} {
			require.NoError(t, d.Rehearse(t.Context(), real))
			rehearsal := real.Rehearsal()
			text := whole(t, d, rehearsal.Namespace, rehearsal.Name)
			for _, value := range []string{canary, "other-8812", "987654", "1234.5"} {
				require.NotContains(t, text, value)
			}
			rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
			require.NoError(t, err)
			require.Greater(t, len(rows), 400)

			a, err := d.Metadata(t.Context(), real.Namespace, real.Name)
			require.NoError(t, err)
			b, err := d.Metadata(t.Context(), rehearsal.Namespace, rehearsal.Name)
			require.NoError(t, err)
			require.Equal(t, a.ColumnInfo, b.ColumnInfo)
			require.Equal(t, a.Partitions, b.Partitions)
			for _, field := range []string{"match_id_name", "label_name", "sample_id_name", "note"} {
				require.Equal(t, a.Metadata[field], b.Metadata[field], field)
			}
			id := 0
			for rows[0][id] != "id" {
				id++
			}
			labels := map[string]bool{}
			for _, row := range rows[1:] {
				ids[row[id]]++
				labels[row[id+1]] = true
			}
			require.Len(t, labels, 2)
		}
		common := 0
		for _, parties := range ids {
			common += parties - 1
		}
		require.Greater(t, common, 350, "parties have ids in common")
		require.Less(t, common, 450, "and some of their own")

		// The synthetic dataset is made once for a generation of the dataset.
		of := func() store.DataTable {
			rehearsal := guest.Rehearsal()
			table, err := d.rows.DataTable(t.Context(), rehearsal.Namespace, rehearsal.Name)
			require.NoError(t, err)
			return table
		}
		before := of()
		require.NoError(t, d.Rehearse(t.Context(), guest))
		require.Equal(t, before.Generation, of().Generation)
		upload("a", "id;y;height\nc1;1;2\n", true)
		require.NoError(t, d.Rehearse(t.Context(), guest))
		require.NotEqual(t, before.Generation, of().Generation)
		require.Equal(t, "height", of().Columns[3].Name)

		requireCode(t, bfia.CodeNotFound, d.Rehearse(t.Context(), bfia.Address{Namespace: "a", Name: "none"}))
	})
}
