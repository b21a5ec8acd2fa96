package blob

import "golang.org/x/sys/unix"

// Space returns the space of the disk that holds a storage. known is false for a storage in S3, and if the
// disk does not answer.
func Space(s Store) (free, total int64, known bool) {
	file, inFolder := Folder(s)
	if !inFolder {
		return 0, 0, false
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(file.root, &disk); err != nil {
		return 0, 0, false
	}
	block := int64(disk.Bsize)
	return int64(disk.Bavail) * block, int64(disk.Blocks) * block, true
}
