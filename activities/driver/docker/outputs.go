package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
)

// Modes of the folders of outputs before their container starts. The storage's root folder, which only the
// party's user may enter, keeps this machine's other users out of all of them.
const (
	outputOwned  = 0o755                 // the container's user is the owner
	outputShared = 0o775 | os.ModeSetgid // the container is in the group, and so is what it writes
	outputOpen   = 0o777                 // the container's user is not known
)

// outputGroup returns the group by which containers write to their outputs. It is false if this process is
// root, which can give the outputs another owner, and if Docker Engine maps groups to other ones.
func (m machine) outputGroup() (group int, ok bool) {
	return os.Getegid(), os.Geteuid() != 0 && m.idOffset == 0
}

// openOutputs lets the user of a container write to its writable mounts.
//
// A container has no capabilities, so not even root in it could write to the folders of this process's user.
// If this process is root, it gives the folders to the container's user. Otherwise the container is a member
// of this process's group, which gets access. A container that runs as the user of its image gets a folder
// that is open to all.
func (d *Driver) openOutputs(ctx context.Context, c container.InspectResponse) error {
	m, err := d.readMachine(ctx)
	if err != nil {
		return err
	}
	for _, output := range writableMounts(c) {
		info, err := os.Lstat(output.Source)
		if err != nil || !info.IsDir() {
			continue // Docker Engine reports a missing source
		}
		if err := m.openOutput(output.Source, c.Config.User != containerUser); err != nil {
			return fmt.Errorf("failed to let the container write to its output %s: %w", output.Target, err)
		}
	}

	return nil
}

// writableMounts returns the mounts with a container's outputs.
func writableMounts(c container.InspectResponse) (mounts []mount.Mount) {
	for _, m := range c.HostConfig.Mounts {
		if m.Type == mount.TypeBind && !m.ReadOnly {
			mounts = append(mounts, m)
		}
	}

	return mounts
}

func (m machine) openOutput(dir string, anyUser bool) error {
	if anyUser {
		return os.Chmod(dir, outputOpen)
	}
	if group, ok := m.outputGroup(); ok {
		if err := os.Chown(dir, -1, group); err != nil {
			return err
		}
		return os.Chmod(dir, outputShared)
	}
	err := os.Chown(dir, m.idOffset+ContainerUID, m.idOffset+ContainerUID)
	if errors.Is(err, fs.ErrPermission) {
		// A file server that maps root to nobody, or a mapping of groups by Docker Engine.
		return os.Chmod(dir, outputOpen)
	}
	if err != nil {
		return err
	}

	return os.Chmod(dir, outputOwned)
}

// idOffset returns what Docker Engine adds to the users of containers. With userns-remap it names its data
// folder by the user and group to which it maps root, such as 100000.100000.
func idOffset(info system.Info) int {
	if !slices.Contains(info.SecurityOptions, "name=userns") {
		return 0
	}
	folder := info.DockerRootDir[strings.LastIndexByte(info.DockerRootDir, '/')+1:]
	user, _, _ := strings.Cut(folder, ".")
	offset, err := strconv.Atoi(user)
	if err != nil {
		return 0
	}

	return offset
}
