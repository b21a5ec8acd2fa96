package dockerd

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Docker Engine that is told to have no bridge removes docker0, which is the machine's own engine's. So each of ours gets
// a bridge that nothing is attached to.

// addBridge makes a bridge, if it is not there.
func addBridge(name string) error {
	err := bridgeCall(unix.SIOCBRADDBR, name)
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("making bridge %s: %w", name, err)
	}
	return nil
}

// removeBridge removes it, and is content when there is none.
func removeBridge(name string) {
	if _, err := net.InterfaceByName(name); err != nil {
		return
	}
	if err := setDown(name); err != nil {
		fmt.Fprintf(os.Stderr, "bridge %s stays: %v\n", name, err)
		return
	}
	if err := bridgeCall(unix.SIOCBRDELBR, name); err != nil {
		fmt.Fprintf(os.Stderr, "bridge %s stays: %v\n", name, err)
	}
}

func bridgeCall(request uintptr, name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(text))); errno != 0 {
		return errno
	}
	return nil
}

// setDown takes an interface down: one that is up can't be removed.
func setDown(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(0)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
