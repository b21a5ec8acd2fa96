package dockerd

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Docker Engine that is configured without a bridge removes docker0, which belongs to the machine's own
// Docker Engine. So each Docker Engine of the tests gets an unused bridge.

// addBridge creates a bridge if it does not exist.
func addBridge(name string) error {
	err := bridgeCall(unix.SIOCBRADDBR, name)
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("failed to create bridge %s: %w", name, err)
	}
	return nil
}

// removeBridge removes a bridge if it exists.
func removeBridge(name string) {
	if _, err := net.InterfaceByName(name); err != nil {
		return
	}
	if err := setDown(name); err != nil {
		fmt.Fprintf(os.Stderr, "failed to remove bridge %s: %v\n", name, err)
		return
	}
	if err := bridgeCall(unix.SIOCBRDELBR, name); err != nil {
		fmt.Fprintf(os.Stderr, "failed to remove bridge %s: %v\n", name, err)
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
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(text)))
	if errno != 0 {
		return errno
	}
	return nil
}

// setDown takes an interface down, because an interface that is up cannot be removed.
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
