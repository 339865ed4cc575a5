package virtio

import (
	"errors"
	"fmt"
	"time"

	"vita/drivers/internal/pci"
)

// control is the queue by which the device is told what its registers have no
// place for (5.1.6.5): one command at a time, whose answer is waited for.
type control struct {
	q      *queue
	device pci.Device
	buffer []byte // the command, and at its end the answer
	iova   uint64
}

const controlWords = 128

// do carries out a command. The caller holds the card's mu.
func (c *control) do(class, command uint8, data []byte) error {
	last := len(c.buffer) - 1
	n := 2 + len(data)
	if n > last {
		return fmt.Errorf("command %d/%d of %d bytes is too long", class, command, n)
	}
	c.buffer[0], c.buffer[1] = class, command
	copy(c.buffer[2:], data)
	c.buffer[last] = answerNever
	c.q.postCommand(c.iova, uint32(n), c.iova+uint64(last), 1)
	c.q.kick()
	for end := time.Now().Add(patience); c.q.look(1) == 0 || !c.q.ready(); time.Sleep(50 * time.Microsecond) {
		if c.q.quit || time.Now().After(end) {
			return fmt.Errorf("the device does not answer to command %d/%d", class, command)
		}
	}
	if c.q.usedCommand() != 0 {
		return errors.New("the device answers to a command that was not given")
	}
	if got := c.buffer[last]; got != answerOK {
		return fmt.Errorf("the device refuses command %d/%d: answer %d", class, command, got)
	}
	return nil
}
