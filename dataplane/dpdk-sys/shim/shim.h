/* What the bindings are made from: DPDK's headers, and functions of ours for what those only have inline.
 *
 * Each mr_ function is the DPDK function of the same name behind the prefix, and nothing more. */
#ifndef MILLRACE_DPDK_SHIM_H
#define MILLRACE_DPDK_SHIM_H

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_thash.h>
#include <rte_version.h>

/* rte_errno of this thread. */
int mr_errno(void);

uint16_t mr_eth_rx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **rx_pkts, uint16_t nb_pkts);
uint16_t mr_eth_tx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **tx_pkts, uint16_t nb_pkts);
int mr_mempool_get_bulk(struct rte_mempool *pool, void **objects, unsigned count);
void mr_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned count);
uint32_t mr_softrss(uint32_t *input, uint32_t words, const uint8_t *key);
int mr_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count);
unsigned mr_ring_dequeue_burst(struct rte_ring *ring, void **objects, unsigned count);
unsigned mr_ring_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned count);

#endif
