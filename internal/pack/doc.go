// Package pack builds what is handed out of Hutong: static programs, images of them, their bills of
// materials, and one archive with all of it. The same commit and the same version of Go give the same
// bytes, in any folder and on any machine. It needs the go command, but neither Docker nor the network,
// once the modules are there.
package pack
