"""Makes tests mean the same however they are started."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts what runs in the background like that, and every process of a test inherits it
    signal.signal(signal.SIGINT, signal.default_int_handler)
