package dataset

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// readIDs appends one share of the ids of a bucket to entries.
func readIDs(path string, entries []idEntry, share, shares uint64) (_ []idEntry, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := bufio.NewReaderSize(file, 256<<10)
	var raw [idSize]byte
	for {
		_, err := io.ReadFull(r, raw[:])
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		e := idEntry{
			hi: binary.LittleEndian.Uint64(raw[:]), lo: binary.LittleEndian.Uint64(raw[8:]),
			line: int64(binary.LittleEndian.Uint64(raw[16:])),
		}
		if e.lo%shares == share {
			entries = append(entries, e)
		}
	}
}
