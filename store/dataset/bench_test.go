package dataset

import "testing"

func BenchmarkIngest(b *testing.B) {
	d, _ := folder(b)
	const size = 64 << 20
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Ingest(b.Context(), IngestRequest{Namespace: "n", Name: "d", Head: true,
			Partitions: 16}, &rows{left: size, cols: 10}); err != nil {
			b.Fatal(err)
		}
	}
}
