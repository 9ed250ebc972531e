"""The filter of sandboxes whose policy names domains: a process of its own beside the node agent.

The node's firewall leads such a sandbox's DNS and its connections to ports 443 and 80 here (``node/egress_rules.py``);
everything else follows the address rules. The filter reads the name a connection asks for (SNI, Host), and when the
policy admits it, looks the name up itself and connects to what it found: the address the sandbox chose plays no part,
so an allowed name leads to no other server. Its resolver answers for admitted names only, and with addresses only.

It holds no state of its own: the agent tells it the policies over a Unix socket and finds it again after a restart.
While it is away, what it would have carried is refused by the kernel.
"""
